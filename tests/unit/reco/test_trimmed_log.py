"""Where retention has deleted outcomes, in each partition as it came, no click becomes a no."""

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from reco.__main__ import run
from reco.commands import evaluate_log as evaluating
from reco.event_files import outcomes_of
from reco.experiment_log import compared
from reco.experiment_report import report
from reco.logged_rounds import NothingToEvaluate, rounds
from reco.settled import DELETED, left_out
from reco.whole_topic import starts_of
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.events import DECISIONS, OUTCOMES, PRODUCTS, Decision, Outcome, encode
from shared.ports import Record
from shared.testing import FakeBroker, FakeConsumer
from tests.unit.reco.logged import PARTITIONS, VISITS, Logged
from tests.unit.reco.test_experiment_report import decision, outcome, text
from tests.unit.reco.test_log_evaluation import files

TRIMMED = 160
"""Decisions of which outcomes may have been deleted: whole batches."""


class Cluster:
    """A fake broker, as the commands read a log."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.address = "fake"
        self.source = broker.source

    def topics(self) -> dict[str, int]:
        return self.broker.partitions

    def consumer(self, topic: str) -> FakeConsumer:
        return self.broker.consumer(topic, "reader")

    def describe(self) -> str:
        return "a fake broker"


def published(logged: Logged, starts: dict[int, int]) -> Any:
    """A cluster that holds the log from these offsets of the outcomes on."""
    broker = FakeBroker({DECISIONS: 1, OUTCOMES: PARTITIONS, PRODUCTS: 1})
    for made in logged.decisions:
        broker.append(DECISIONS, 0, b"", encode(made))
    for partition, log in logged.records.items():
        for each in log:
            broker.append(OUTCOMES, partition, each.key, each.value)
    for partition, start in starts.items():
        broker.trim(OUTCOMES, partition, start)
    return Cluster(broker)


def run_of(visits: int, moves_at: int) -> tuple[list[Decision], list[tuple[int, int, Outcome]]]:
    """Decisions with views that are up to date, and outcomes with their partition and offset.

    Three in ten are clicked at rank 1, the others looked at to rank 2. Rank 1 of the variants a and
    b lies in partition 0 and 1, rank 2 in partition 2, and from visit `moves_at` on in 0.
    """
    rng = np.random.default_rng(0)
    ends = [0, 0, 0]
    decisions, outcomes = [], []
    for n in range(visits):
        made = structs.replace(decision(n, "ab"[n % 2]), view=[*ends], user_id=n + 1)
        decisions.append(structs.replace(made, via="stream"))
        clicked = rng.random() < 0.3
        for rank in (1,) if clicked else (1, 2):
            partition = n % 2 if rank == 1 else 2 if n < moves_at else 0
            result = outcome(n, float(clicked), rank, at_s=n)
            outcomes.append((partition, ends[partition], result))
            ends[partition] += 1
    return decisions, outcomes


def held(outcomes: list[tuple[int, int, Outcome]], starts: dict[int, int]) -> list[Outcome]:
    return [each for partition, offset, each in outcomes if offset >= starts.get(partition, 0)]


def test_a_decision_counts_if_no_outcome_of_it_can_have_been_deleted() -> None:
    decisions, outcomes = run_of(400, 200)
    emptied = sum(partition == 2 for partition, *_ in outcomes)
    for starts, first in (({}, 0), ({0: 30}, 60), ({0: 30, 1: 90}, 180), ({0: 1, 2: emptied}, 200)):
        out = left_out(decisions, held(outcomes, starts), starts)
        assert set(out.values()) <= {DELETED}
        kept = {made.decision_id for made in decisions} - out.keys()
        # The view of the first one after the last outcome that was deleted.
        assert kept == {f"d-{n}" for n in range(400) if n >= len(decisions) - len(kept)}
        assert abs(len(decisions) - len(kept) - first) <= 3
        whole = [each for *_, each in outcomes if each.decision_id in kept]
        assert [e for e in held(outcomes, starts) if e.decision_id in kept] == whole


def test_a_view_that_says_nothing_of_a_trimmed_partition_is_no_proof() -> None:
    made = structs.replace(decision(1, "a"), view=[5])
    assert left_out([made], [outcome(1, 0.0)], {0: 5, 1: 1}) == {"d-1": DELETED}


def test_variants_that_are_alike_do_not_differ_since_the_clicks_of_one_were_deleted() -> None:
    decisions, outcomes = run_of(4_000, 4_000)
    starts = {0: 1_000}  # where variant a's clicks are
    found = report(decisions, held(outcomes, starts), starts=starts)
    a, b = found.variants
    assert not b.differs
    assert found.deleted_decisions == 4_000 - a.visits - b.visits > 1_500
    kept = {made.decision_id for made in decisions[-(a.visits + b.visits) :]}
    clicks = sum(each.reward for *_, each in outcomes if each.decision_id in kept)
    assert a.clicks + b.clicks == clicks
    assert f"left out: {found.deleted_decisions:,} with {DELETED}" in text(found)


@pytest.fixture(scope="module")
def logged(data: DataSet) -> Logged:
    return Logged(data, Policy("linucb", 0.2, epsilon=0.3))


@pytest.fixture
def starts(logged: Logged) -> dict[int, int]:
    """Every partition begins later than the one before, and at another time."""
    seen = logged.decisions[TRIMMED].view
    return {partition: end * partition // 11 for partition, end in enumerate(seen)}


def test_the_log_is_evaluated_from_where_on_it_is_whole(
    data: DataSet, logged: Logged, starts: dict[int, int]
) -> None:
    records = {p: log[starts[p] :] for p, log in logged.records.items()}
    whole = rounds(logged.decisions, logged.outcomes, logged.history, data.encoder.id)
    clicked = {
        made.decision_id: row.max() for made, row in zip(whole.decisions, whole.reward, strict=True)
    }
    found = rounds(logged.decisions, outcomes(records), logged.history, data.encoder.id, starts)
    assert found.skipped == {DELETED: TRIMMED}
    rewards = [clicked[made.decision_id] for made in found.decisions]
    assert found.reward.max(axis=1).tolist() == rewards
    gone = {partition: len(log) for partition, log in logged.records.items()}
    with pytest.raises(NothingToEvaluate, match=r"300 with outcomes of which .*: keep the topic"):
        rounds(logged.decisions, [], logged.history, data.encoder.id, gone)


def outcomes(records: dict[int, list[Record]]) -> list[Outcome]:
    return [*outcomes_of(each for log in records.values() for each in log)]


def test_the_experiment_is_told_where_the_log_starts(
    logged: Logged, starts: dict[int, int]
) -> None:
    cluster = published(logged, starts)
    assert starts_of(cluster, OUTCOMES) == starts
    found = compared(cluster, None, 0)
    assert found.deleted_decisions == TRIMMED
    assert sum(variant.visits for variant in found.variants) == VISITS - TRIMMED


@pytest.mark.parametrize("from_files", [True, False])
@pytest.mark.parametrize("emptied", [True, False])
def test_models_that_lack_what_was_deleted_are_not_called_as_logged(
    data_folder: Path,
    logged: Logged,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    from_files: bool,
    emptied: bool,
) -> None:
    gone = len(logged.records[5]) if emptied else 3
    given = ["evaluate", "--log", "decisions", "--data", str(data_folder)]
    if from_files:
        trimmed = copy(logged)
        trimmed.records = {**logged.records, 5: logged.records[5][gone:]}
        decisions, remaining = files(trimmed, tmp_path, watched=True)
        given += ["--decisions", str(decisions), "--outcomes", str(remaining)]
    else:
        cluster = published(logged, {5: gone})
        monkeypatch.setattr(evaluating, "open_cluster", lambda *_: cluster)
    assert run(given) == 2
    out, err = capsys.readouterr()
    seen = max(made.view[5] for made in logged.decisions)
    first = gone if not (from_files and emptied) else seen
    assert f"no outcomes of partition 5 before offset {first}, so the models" in err
    assert "(--snapshot FILE)" in err
    assert (err.count("\n"), out) == (1, "")
