"""What all tests share: the prepared data, made once a run."""

import fcntl
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from producer.prepare import prepare
from shared.catalogue import DataSet, load_data

SEED = 1237

settings.register_profile("default", deadline=None, derandomize=True, print_blob=False)
settings.register_profile(
    # For `python -m tests.mutation`: that a test fails is all that matters there.
    "unshrunk",
    settings.get_profile("default"),
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A temporary folder that all workers of a run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def data_folder(run_folder: Path) -> Path:
    """What `reco prepare --seed 1237` writes; not to be changed by a test."""
    folder = run_folder / "prepared"
    with (run_folder / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # xdist's workers prepare it once, together
        if not folder.exists():
            prepare(folder, SEED)
    return folder


@pytest.fixture(scope="session")
def data(data_folder: Path) -> DataSet:
    """The prepared data, loaded."""
    return load_data(data_folder)
