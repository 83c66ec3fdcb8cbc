"""One run of the learning report: `python -m tests.learning.run JOB OUT`, in either environment."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from producer.history import read_history
from reco.simulation import Past, simulate
from reco.worlds import world_of
from shared.cascade import cascade
from shared.catalogue import DataSet, load_data
from shared.features import CONTEXT_FEATURES
from shared.settings import SLATE_LENGTH
from tests.learning.plan import Job, bandit

_ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)


def run(job: Job, folder: Path, out: Path) -> None:
    """Simulate, and keep the click probabilities of every visit."""
    threadpool_limits(1, user_api="blas")
    data = load_data(folder)
    world = world_of(job.world, data)
    rates = simulate(
        world,
        bandit(job.entry, world),
        job.visits,
        job.seed,
        lambda clicked, length: cascade(clicked, length, SLATE_LENGTH),
        _past(folder, data) if job.entry.warm else None,
    )
    draft = out.with_suffix(".draft.npz")
    np.savez_compressed(draft, **{name: getattr(rates, name) for name in rates._fields})
    draft.replace(out)


def _past(folder: Path, data: DataSet) -> Past:
    outcomes = list(
        read_history(folder / "history.csv", CONTEXT_FEATURES, data.encoder.id, _ANY_TIME)
    )
    return Past(
        np.array([outcome.product_id for outcome in outcomes], np.int64),
        np.array([outcome.x for outcome in outcomes], np.float64),
        np.array([outcome.reward for outcome in outcomes], np.float64),
    )


if __name__ == "__main__":
    run(msgspec.json.decode(sys.argv[1], type=Job), Path(sys.argv[2]), Path(sys.argv[3]))
