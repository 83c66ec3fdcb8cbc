"""A frozen model judges by decisions that it can't have learned from, and by no others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reco.__main__ import run
from reco.commands import evaluate_log as evaluating
from reco.logged_rounds import LEARNED
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.events import OUTCOMES
from shared.ports import Position, Source, State
from shared.snapshots import Snapshot, save
from tests.unit.reco.logged import PARTITIONS, VISITS, Ends, Logged
from tests.unit.reco.test_log_evaluation import files
from tests.unit.reco.test_trimmed_log import published

BEFORE = 160
"""Decisions that were made before the snapshot: whole batches."""


@pytest.fixture(scope="module")
def logged(data: DataSet) -> Logged:
    return Logged(data, Policy("linucb", 0.2, epsilon=0.3))


Taken = Callable[..., list[str]]


@pytest.fixture
def taken(data: DataSet, tmp_path: Path) -> Taken:
    """What asks for a snapshot that was taken where the log ended there, partition by partition."""

    def take(ends: Ends, cluster: str = "fake") -> list[str]:
        source = Source(cluster, OUTCOMES, PARTITIONS)
        states = {
            partition: State(Position(end, source, 1, "test", data.config), {})
            for partition, end in enumerate(ends)
        }
        save(tmp_path / "past.snapshot", Snapshot("main", states))
        return ["--snapshot", str(tmp_path / "past.snapshot")]

    return take


@pytest.fixture
def line(logged: Logged, data_folder: Path, tmp_path: Path) -> list[str]:
    decisions, outcomes = files(logged, tmp_path, watched=True)
    given = ["--decisions", str(decisions), "--outcomes", str(outcomes), "--json"]
    return ["evaluate", "--log", "decisions", "--data", str(data_folder), *given]


def test_decisions_that_a_snapshot_may_have_learned_from_are_left_out(
    logged: Logged, line: list[str], taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = logged.decisions[BEFORE].view
    for ends, left_out in (
        ([0] * PARTITIONS, 0),
        (seen, BEFORE),
        # Ahead in one partition only: of a later decision it may know that one outcome.
        ([*seen[:-1], seen[-1] + 1], BEFORE + 20),
    ):
        assert run([*line, *taken(ends)]) == 0
        result: Any = msgspec.json.decode(capsys.readouterr().out)
        assert (result["model"], result["decisions"]) == ("frozen", VISITS - left_out)
        assert result["skipped"] == ({LEARNED: left_out} if left_out else {})


def test_where_a_snapshot_may_have_learned_from_all_an_older_one_is_asked_for(
    logged: Logged, line: list[str], taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = [len(logged.records.get(partition, [])) for partition in range(PARTITIONS)]
    assert run([*line, *taken(ends)]) == 2
    err = capsys.readouterr().err
    assert f"300 with {LEARNED}): give a --snapshot from before the decisions" in err
    assert err.count("\n") == 1


def test_a_snapshot_without_states_is_a_frozen_model_too(
    line: list[str], taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*line, *taken([])]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["model"] == "frozen"


def test_on_a_trimmed_log_a_snapshot_judges_by_what_is_whole(
    logged: Logged,
    taken: Taken,
    data_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = logged.decisions[BEFORE].view
    cluster = published(logged, dict(enumerate(seen)))
    monkeypatch.setattr(evaluating, "open_cluster", lambda *_: cluster)
    asked = ["evaluate", "--log", "decisions", "--data", str(data_folder), "--json"]
    assert run([*asked, *taken([end // 2 for end in seen])]) == 0
    result = msgspec.json.decode(capsys.readouterr().out)
    assert result["decisions"] == VISITS - BEFORE
    assert run([*asked, *taken(seen, "other")]) == 2
    err = capsys.readouterr().err
    assert "the snapshot is of another log (the cluster was other and is fake)" in err
    assert err.count("\n") == 1
