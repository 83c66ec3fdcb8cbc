"""How often the 95 % intervals of off-policy estimates cover the truth, by how far the log reaches.

    python -m tests.benchmarks.coverage [--logs 500] [--visits 500] [--products 200]

The truth is known, since the log is simulated. Not a matter of time but of luck: every figure is
the same in every run.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from producer.prepare import prepare
from reco.process import one_blas_thread
from server.scorer import Policy
from shared import off_policy
from shared.catalogue import load_data
from shared.off_policy import doubt
from tests.simulated_learner import Greedy
from tests.simulated_logs import SimulatedLogs

SEED: Final = 1237
CASES: Final = (
    ("linucb α 0.2, ε 0.3", Policy("linucb", 0.2, epsilon=0.3), "the same, ε 0", Policy("linucb")),
    (
        "linucb α 0.2, ε 0.3",
        Policy("linucb", 0.2, epsilon=0.3),
        "linucb α 0.1",
        Policy("linucb", 0.1),
    ),
    (
        "linucb α 0.2, ε 0.3",
        Policy("linucb", 0.2, epsilon=0.3),
        "linucb α 0",
        Policy("linucb", 0.0),
    ),
    ("random", Policy("random"), "linucb α 0.2", Policy("linucb")),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--logs", type=int, default=500)
    parser.add_argument("--visits", type=int, default=500)
    parser.add_argument("--products", type=int, default=200)
    asked = parser.parse_args()
    one_blas_thread()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), SEED)
        world = SimulatedLogs(load_data(Path(folder)), asked.products)
    _learning(asked.logs, asked.visits)
    print(f"{asked.logs} logs of {asked.visits} visits, {asked.products} products, 5 ranks")
    print("| log by | policy | its click rate | effective visits | cautioned | ips | snips | dr |")
    print("|---|---|---|---|---|---|---|---|")
    for logged, logging, wanted, target in CASES:
        truth = world.truth(target)
        covered: dict[str, list[bool]] = {"ips": [], "snips": [], "dr": []}
        effective, told = [], []
        for seed in range(asked.logs):
            estimates, overlap = world.estimates(logging, target, asked.visits, seed)
            effective.append(overlap.effective_sample_size)
            told.append(doubt(overlap, estimates) is not None)
            for estimate in estimates:
                low, high = estimate.interval or (1.0, 0.0)
                covered[estimate.estimator].append(low <= truth <= high)
        shares = " | ".join(f"{np.mean(found):.1%}" for found in covered.values())
        print(
            f"| {logged} | {wanted} | {truth:.4f} | {np.mean(effective):.0f} "
            f"| {np.mean(told):.0%} | {shares} |",
            flush=True,
        )


def _learning(logs: int, visits: int) -> None:
    """The same for a log whose later decisions depend on its earlier rewards."""
    policy = Greedy((0.5, 0.6), epsilon=0.2)
    truth, covered = policy.rates[1], {"ips": list[bool](), "snips": [], "dr": []}
    bias: dict[str, list[float]] = {name: [] for name in covered}
    for seed in range(logs):
        log, prediction = policy.log(visits, np.random.default_rng([seed, visits]))
        found = (
            off_policy.ips(log),
            off_policy.snips(log),
            off_policy.doubly_robust(log, prediction),
        )
        for estimate in found:
            low, high = estimate.interval or (1.0, 0.0)
            covered[estimate.estimator].append(low <= truth <= high)
            bias[estimate.estimator].append((estimate.value or 0.0) - truth)
    print(f"{logs} logs of {visits} visits, 2 products, by the better so far, ε 0.2")
    print("| estimator | mean error | covered |")
    print("|---|---|---|")
    for name, found_in in covered.items():
        print(f"| {name} | {np.mean(bias[name]):+.4f} | {np.mean(found_in):.1%} |", flush=True)


if __name__ == "__main__":
    main()
