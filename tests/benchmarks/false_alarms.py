"""How often an experiment with twice the same policy finds a difference, looked at all the time.

    python -m tests.benchmarks.false_alarms [--runs 200]

At most 5 % is promised. Not a matter of time but of luck: every figure is the same in every run.
"""

import argparse
from typing import Final

import numpy as np

from tests.simulated_experiments import Shop, told

CASES: Final = (
    ("1,000 users of 100 visits, all alike", Shop(1_000, 100_000), 1_000),
    ("the same, click rates differ by 0.1", Shop(1_000, 100_000, 0.1), 1_000),
    ("by 0.2", Shop(1_000, 100_000, 0.2), 1_000),
    ("200 users of 300 visits, by 0.2", Shop(200, 60_000, 0.2), 1_000),
    ("100 users of 100 visits, by 0.3", Shop(100, 10_000, 0.3), 50),
    ("10,000 users of one visit", Shop(10_000, 10_000, 0.2), 50),
    ("the same, 2 % are clicked", Shop(10_000, 10_000, rate=0.02), 50),
    ("1,000 users one after the other, 20 visits, by 0.3", Shop(1_000, 20_000, 0.3, 0.5, 1, 5), 50),
    ("500 users, every tenth comes 30 times as often, by 0.3", Shop(500, 20_000, 0.3, 0.5, 30), 50),
    ("3,000 users of 4 visits, the first 0.4 better", Shop(3_000, 12_000, 0.1, 0.3, first=0.4), 50),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    print(f"{runs} runs")
    print("| users | a look every | false alarms ", end="")
    print("| if each visit were a unit | half width at the end |")
    print("|---|---|---|---|---|")
    for name, shop, every in CASES:
        found = [told(shop, every, run) for run in range(runs)]
        alarms, width, by_visits = np.mean(found, axis=0)
        print(f"| {name} | {every:,} | {alarms:.1%} | {by_visits:.0%} | {width:.3f} |", flush=True)


if __name__ == "__main__":
    main()
