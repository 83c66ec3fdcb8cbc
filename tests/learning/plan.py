"""Which runs make the learning report: policies × worlds × seeds."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from reco.learners import learner
from reco.policy_options import chosen
from reco.simulation import Bandit
from reco.worlds import World
from server.scorer import Policy
from shared.settings import ALPHA, SHARED_ALPHA
from shared.shared_linucb import Hyperparameters
from tests.learning.rivals import rival


class Entry(msgspec.Struct, frozen=True):
    """One line of a table."""

    key: str
    """Part of the name of its results."""
    label: str
    policy: str = ""
    alpha: float = 0.0
    estimates: bool = False
    gamma: float = 1.0
    warm: bool = False
    other: str = ""
    """Another library's bandit (`rivals.rival`), which runs in an environment of its own."""
    most_seeds: int = 20
    """What is slow gets fewer; each line of the page says how many."""


SEEDS_RULE: Final = Entry("linucb-1", "disjoint LinUCB, α 1 (the seed's rule)", "linucb", 1.0)
DISJOINT: Final = Entry(f"linucb-{ALPHA}", f"disjoint LinUCB, α {ALPHA}", "linucb", ALPHA)
SHARED: Final = Entry(
    "shared-linucb", f"shared-linucb, α {SHARED_ALPHA:g}", "shared-linucb", SHARED_ALPHA
)
ESTIMATED: Final = Entry(
    "shared-data",
    "shared-linucb, variances from the data",
    "shared-linucb",
    SHARED_ALPHA,
    estimates=True,
)
SHARED_ONLY: Final = Entry("shared", "shared only (τ² = 0)", "shared", SHARED_ALPHA)
OTHERS: Final = (
    # The same as our disjoint LinUCB (tests hold it to 1e-9), at thirty times the time.
    Entry("mabwiser", "MABWiser LinUCB, α 0.2", other="mabwiser:0.2", most_seeds=5),
    Entry("river", "River LinUCBDisjoint, precisions 25", other="river:25"),
    Entry(
        "vw",
        "Vowpal Wabbit cb_explore_adf, SquareCB",
        other="vw-top:--squarecb --gamma_scale 1000 -q cp",
    ),
)


def forgetting(entry: Entry, gamma: float) -> Entry:
    """The same with a forgetting factor."""
    return msgspec.structs.replace(
        entry, key=f"{entry.key}-g{gamma}", label=f"{entry.label}, γ {gamma}", gamma=gamma
    )


def warm(entry: Entry) -> Entry:
    """The same after the history."""
    return msgspec.structs.replace(entry, key=f"{entry.key}-warm", warm=True)


def few(entry: Entry, seeds: int) -> Entry:
    """The same with fewer seeds."""
    return msgspec.structs.replace(entry, most_seeds=seeds)


TABLES: Final[dict[str, tuple[str, Sequence[Entry]]]] = {
    "seed": ("seed", (SHARED, ESTIMATED, SHARED_ONLY, DISJOINT, SEEDS_RULE, *OTHERS)),
    "extra": ("extra", (SHARED, ESTIMATED, SHARED_ONLY, DISJOINT, SEEDS_RULE, *OTHERS)),
    "history": ("seed", (warm(SHARED), warm(ESTIMATED), warm(DISJOINT), warm(SEEDS_RULE))),
    "drift": (
        "drift",
        (SHARED, DISJOINT, forgetting(SHARED, 0.998), forgetting(DISJOINT, 0.998)),
    ),
    "delay": ("delay", (SHARED, DISJOINT, SEEDS_RULE)),
    "large": ("large", tuple(few(entry, 2) for entry in (SHARED, DISJOINT, SEEDS_RULE))),
}
"""Name of the table → world and lines."""


class Job(msgspec.Struct, frozen=True):
    """One run."""

    world: str
    entry: Entry
    seed: int
    visits: int

    @property
    def file_name(self) -> str:
        """Where its result is kept."""
        return f"{self.world}-{self.entry.key}-{self.visits}-{self.seed}.npz"


def jobs(seeds: range, visits: int, tables: Sequence[str], others: bool) -> Iterator[Job]:
    """All runs of these tables, seed by seed: an interrupted report has whole seeds."""
    for number, seed in enumerate(seeds):
        for table in tables:
            world, entries = TABLES[table]
            for entry in entries:
                if number < entry.most_seeds and (others or not entry.other):
                    yield Job(world, entry, seed, visits)


def bandit(entry: Entry, world: World) -> Bandit:
    """What learns in this line's runs."""
    if entry.other:
        return rival(entry.other, world)
    start, estimates = chosen(entry.policy, None if entry.estimates else Hyperparameters())
    policy = Policy(entry.policy, entry.alpha)
    return learner(world, policy, start, estimates, entry.gamma)
