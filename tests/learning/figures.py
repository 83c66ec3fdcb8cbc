"""What the model was to reach, and what the runs came to: reached or missed. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from reco.simulation import Rates, Window, windows
from tests.learning.plan import (
    DISJOINT,
    ESTIMATED,
    OTHERS,
    SEEDS_RULE,
    SHARED,
    SHARED_ONLY,
    Entry,
    warm,
)

Runs = Mapping[int, Rates]
"""Seed → what its run came to."""

Tables = Mapping[str, Mapping[Entry, Runs]]
"""Name of the table → its lines that have runs."""


class AtLeast(NamedTuple):
    """Shares of the possible uplift, by the visit that a window starts at."""

    table: str
    entry: Entry
    shares: Mapping[int, float]


class Lead(NamedTuple):
    """Not behind others by more than `margin`, in every window from visit `start` on."""

    asked: str
    table: str
    entry: Entry
    others: tuple[Entry, ...]
    start: int = 0
    margin: float = 0.0


FIGURES: Final[tuple[AtLeast | Lead, ...]] = (
    AtLeast("seed", SHARED, {0: 0.78, 200: 0.93, 500: 0.96, 2_000: 0.98}),
    AtLeast("extra", SHARED, {0: 0.53, 200: 0.67, 500: 0.76, 1_000: 0.83, 2_000: 0.88}),
    Lead("ahead of disjoint LinUCB", "extra", SHARED, (DISJOINT, SEEDS_RULE)),
    Lead("ahead of shared only from visit 200 on", "extra", SHARED, (SHARED_ONLY,), start=200),
    Lead("ahead of the other libraries", "seed", SHARED, OTHERS),
    Lead("ahead of the other libraries", "extra", SHARED, OTHERS),
    Lead("estimated at most 2 points below fixed", "seed", ESTIMATED, (SHARED,), margin=0.02),
    Lead("estimated at most 2 points below fixed", "extra", ESTIMATED, (SHARED,), margin=0.02),
    Lead("not below disjoint", "history", warm(SHARED), (warm(DISJOINT), warm(SEEDS_RULE))),
)


class Verdict(NamedTuple):
    """One row of the page's first table."""

    table: str
    asked: str
    measured: str
    reached: bool


def verdicts(tables: Tables) -> Iterator[Verdict]:
    """Of all figures whose lines have runs."""
    for figure in FIGURES:
        lines = tables.get(figure.table, {})
        if isinstance(figure, AtLeast):
            if figure.entry in lines:
                yield from _shares(figure, lines[figure.entry])
        elif figure.entry in lines and any(other in lines for other in figure.others):
            yield _lead(figure, lines)


def _shares(figure: AtLeast, runs: Runs) -> Iterator[Verdict]:
    for window in windows(runs.values()):
        asked = figure.shares.get(window.start)
        if asked is not None:
            error = window.uplift_share_sd / len(runs) ** 0.5
            yield Verdict(
                figure.table,
                f"visits {name(window)}: at least {100 * asked:.0f} %",
                f"{100 * window.uplift_share:.2f} % (standard error {100 * error:.1f})",
                window.uplift_share >= asked,
            )


def _lead(figure: Lead, lines: Mapping[Entry, Runs]) -> Verdict:
    least, where = min(_leads(figure, lines))
    return Verdict(
        figure.table,
        f"{figure.asked}, in every window",
        f"least lead {100 * least:+.1f} points ({where})",
        least >= -figure.margin,
    )


def _leads(figure: Lead, lines: Mapping[Entry, Runs]) -> Iterator[tuple[float, str]]:
    """The lead in each window over each of the others, of the seeds that both have."""
    mine = lines[figure.entry]
    for other in figure.others:
        common = [seed for seed in lines.get(other, {}) if seed in mine]
        if not common:
            continue
        ours, theirs = (windows([runs[s] for s in common]) for runs in (mine, lines[other]))
        for us, them in zip(ours, theirs, strict=True):
            if us.start >= figure.start:
                seeds = f"{len(common)} seed{'s' * (len(common) > 1)}"
                yield us.uplift_share - them.uplift_share, f"{name(us)}, {other.label}, {seeds}"


def name(window: Window) -> str:
    """A window as it is written."""
    return f"{window.start:,}-{window.end:,}"
