"""`reco demo`: what it refuses before it starts anything."""

import shutil
from pathlib import Path

import pytest

from tests.unit.reco.command_line import Reco


@pytest.fixture
def own_data(data_folder: Path, tmp_path: Path) -> Path:
    """A folder to spoil."""
    return shutil.copytree(data_folder, tmp_path / "own")


def test_without_a_history_it_says_how_to_do_without(reco: Reco, own_data: Path) -> None:
    (own_data / "history.csv").unlink()
    result = reco("demo", "--visits", 1, "--data", own_data)
    assert (result.code, result.out) == (2, "")
    assert f"can't read {own_data / 'history.csv'}" in result.err
    assert "with --cold none is needed" in result.err


def test_a_history_with_a_bad_line_is_refused(reco: Reco, own_data: Path) -> None:
    with (own_data / "history.csv").open("a") as file:
        file.write("10001,0.5\n")
    result = reco("demo", "--visits", 1, "--data", own_data)
    assert (result.code, result.out) == (2, "")
    assert "line 10002: it has fewer cells than the header" in result.err
