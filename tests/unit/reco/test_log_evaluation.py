"""A log of decisions is joined, brought to its models, evaluated and exported."""

import re
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs

from reco.__main__ import run
from reco.bandit_feedback import bandit_feedback, write
from reco.event_files import UnreadableEvents, read_decisions, read_outcomes
from reco.log_evaluation import evaluate_log
from reco.logged_rounds import NothingToEvaluate, Rounds, rounds
from reco.settled import EARLY
from server.scorer import Policy
from shared.catalogue import DataSet
from shared.events import OUTCOMES, encode
from shared.ports import Position, Source, State
from shared.shared_linucb import Hyperparameters
from shared.snapshots import Snapshot, save
from tests.scenario import NESTED, NOON
from tests.unit.reco.logged import VISITS, Logged


@pytest.fixture(scope="module")
def logged(data: DataSet) -> Logged:
    return Logged(data, Policy("linucb", 0.2, epsilon=0.3))


@pytest.fixture(scope="module")
def joined(data: DataSet, logged: Logged) -> Rounds:
    return joined_of(data, logged)


def joined_of(data: DataSet, logged: Logged) -> Rounds:
    return rounds(logged.decisions, logged.outcomes, logged.history, data.encoder.id)


def test_the_logged_policy_would_have_shown_what_it_showed_with_the_same_probability(
    data: DataSet, logged: Logged, joined: Rounds
) -> None:
    own = Policy("linucb", 0.2, epsilon=0.3)
    result = evaluate_log(joined, own, logged.models, frozen=False)
    values = {estimate.estimator: estimate for estimate in result.estimates}
    assert values["ips"].value == pytest.approx(values["logged"].value, rel=1e-9)
    assert result.overlap.mean_weight == pytest.approx(1.0)
    assert result.overlap.effective_sample_size == pytest.approx(VISITS)
    assert result.decisions == VISITS
    assert result.caution is None


def test_a_policy_like_the_logged_one_is_estimated_near_it(
    data: DataSet, logged: Logged, joined: Rounds
) -> None:
    calm = Policy("linucb", 0.2, epsilon=0.1)
    result = evaluate_log(joined, calm, logged.models, frozen=False)
    for estimate in result.estimates:
        assert estimate.value is not None
        assert estimate.interval is not None
        assert estimate.interval[0] <= estimate.value <= estimate.interval[1]
    assert result.overlap.mean_weight == pytest.approx(1.0, abs=0.2)


def test_a_policy_that_the_log_does_not_reach_comes_with_a_caution(
    data: DataSet, logged: Logged, joined: Rounds
) -> None:
    result = evaluate_log(joined, Policy("linucb", 5.0), logged.models, frozen=True)
    assert result.model == "frozen"
    assert result.caution


@pytest.mark.parametrize("name", ["lints", "lingreedy", "popularity", "random"])
def test_every_policy_can_be_evaluated(
    data: DataSet, logged: Logged, joined: Rounds, name: str
) -> None:
    few = joined._replace(
        decisions=joined.decisions[:40],
        slates=joined.slates[:40],
        X=joined.X[:40],
        propensity=joined.propensity[:40],
        reward=joined.reward[:40],
        examined=joined.examined[:40],
    )
    result = evaluate_log(few, Policy(name), logged.models, frozen=False)
    assert [e.estimator for e in result.estimates] == ["logged", "replay", "ips", "snips", "dr"]
    assert result.overlap.mean_weight >= 0.0


def test_what_can_not_be_used_is_counted_by_reason(data: DataSet, logged: Logged) -> None:
    replace = msgspec.structs.replace
    first, second, third, *rest = logged.decisions
    silent = [replace(item, propensity=None) for item in first.slate]
    strange = [replace(third.slate[0], product_id=9_999), *third.slate[1:]]
    log = [
        replace(first, slate=silent),
        replace(second, encoder_id="other"),
        replace(third, slate=strange),
        replace(rest[0], decision_id="unresolved"),
        *rest,
        *rest,
    ]
    found = rounds(log, logged.outcomes, logged.history, data.encoder.id)
    assert len(found.decisions) == VISITS - 3
    assert found.skipped == {
        "no propensities": 1,
        "another encoder": 1,
        "products that are unknown here": 1,
        "no outcome yet": 1,
    }
    with pytest.raises(NothingToEvaluate, match="1 with no propensities"):
        rounds(log[:1], logged.outcomes, logged.history, data.encoder.id)


def test_clicks_over_http_wait_for_the_others_of_their_time(data: DataSet, logged: Logged) -> None:
    asked = [
        msgspec.structs.replace(made, via="http", decided_at=NOON + timedelta(seconds=number))
        for number, made in enumerate(logged.decisions)
    ]
    clicked = {each.decision_id for each in logged.outcomes if each.reward > 0.0}
    last = max(n for n, made in enumerate(asked) if made.decision_id not in clicked)
    found = rounds(asked, logged.outcomes, logged.history, data.encoder.id)
    assert len(found.decisions) == last
    assert found.skipped == {EARLY: VISITS - last}


def test_a_log_without_chance_says_so(data: DataSet) -> None:
    certain = Logged(data, Policy("linucb", 0.2))
    log = joined_of(data, certain)
    result = evaluate_log(log, Policy("linucb", 0.0), certain.models, frozen=False)
    assert result.caution
    assert "never randomised" in result.caution


def test_the_export_has_a_round_for_every_product_looked_at(
    data: DataSet, logged: Logged, joined: Rounds, tmp_path: Path
) -> None:
    context = np.arange(len(data.arms) * 2.0).reshape(-1, 2)
    write(tmp_path, bandit_feedback(joined, data.arms, context), data.encoder.features)
    found = dict(np.load(tmp_path / "bandit_feedback.npz"))
    n = int(found["n_rounds"])
    assert n == len(logged.outcomes)
    assert int(found["n_actions"]) == len(data.arms)
    assert found["context"].shape == (n, data.encoder.d)
    assert found["action_context"].shape == (len(data.arms), 2)
    shown = {
        (decision.decision_id, place): item
        for decision in logged.decisions
        for place, item in enumerate(decision.slate)
    }
    rows = zip(found["decision_id"], found["position"], strict=True)
    items = [shown[key, place] for key, place in rows]
    assert found["product_id"][found["action"]].tolist() == [item.product_id for item in items]
    assert found["pscore"].tolist() == [item.propensity for item in items]
    assert found["reward"].sum() == sum(outcome.reward for outcome in logged.outcomes)
    lines = (tmp_path / "bandit_feedback.csv").read_text().splitlines()
    assert len(lines) == n + 1
    assert lines[0].startswith("decision_id,product_id,action,position,reward,pscore,")


def files(logged: Logged, folder: Path, *, watched: bool) -> tuple[Path, Path]:
    """The log as files, plain or as `reco topics watch --json` prints it."""
    decisions, outcomes = folder / "decisions.jsonl", folder / "outcomes.jsonl"
    decisions.write_bytes(b"\n".join(map(encode, logged.decisions)))
    lines = []
    for log in logged.records.values():
        for record in log:
            line = record.value or b""
            if watched:
                head = b'{"topic":"outcomes","partition":%d,"offset":%d,"value":'
                line = head % (record.partition, record.offset) + line + b"}"
            lines.append(line)
    outcomes.write_bytes(b"\n".join(lines))
    return decisions, outcomes


@pytest.mark.parametrize("watched", [True, False])
def test_files_give_the_records_with_their_offsets(
    logged: Logged, tmp_path: Path, watched: bool
) -> None:
    decisions, outcomes = files(logged, tmp_path, watched=watched)
    assert read_decisions(decisions) == logged.decisions
    found = read_outcomes(outcomes, 12)
    assert {p: [r.offset for r in log] for p, log in found.items()} == {
        p: [r.offset for r in log] for p, log in logged.records.items()
    }


def test_outcomes_without_offsets_of_a_log_with_marks_between_them_are_refused(
    logged: Logged, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A mark behind every outcome, as where each comes in a transaction of its own.
    decisions, outcomes = files(logged, tmp_path, watched=False)
    views = [[2 * end for end in made.view] for made in logged.decisions]
    made = [structs.replace(d, view=v) for d, v in zip(logged.decisions, views, strict=True)]
    decisions.write_bytes(b"\n".join(map(encode, made)))
    given = ["--data", str(data_folder), "--decisions", str(decisions), "--outcomes", str(outcomes)]
    assert run(["evaluate", "--log", "decisions", *given]) == 2
    err = capsys.readouterr().err
    assert "has no offsets, and counted from 0" in err
    assert "reco topics watch outcomes" in err
    assert err.count("\n") == 1


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('\n{"topic":"visits","partition":0,"offset":0,"value":{}}\n')
    with pytest.raises(UnreadableEvents, match="line 2: a record of visits"):
        read_decisions(path)
    for value in (b"{", NESTED):
        path.write_bytes(value)
        with pytest.raises(UnreadableEvents, match="line 1: not a record of decisions"):
            read_decisions(path)
    with pytest.raises(UnreadableEvents, match="can't read"):
        read_decisions(tmp_path / "none.jsonl")


@pytest.mark.parametrize("policy", ["linucb", "shared-linucb"])
def test_the_command_prints_and_exports(
    logged: Logged,
    data_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    policy: str,
) -> None:
    decisions, outcomes = files(logged, tmp_path, watched=True)
    given = ["--data", str(data_folder), "--decisions", str(decisions), "--outcomes", str(outcomes)]
    asked = ["--policy", policy, "--epsilon", "0.1", "--export", str(tmp_path / "obp"), "--json"]
    assert run(["evaluate", "--log", "decisions", *given, *asked]) == 0
    out, err = capsys.readouterr()
    result = msgspec.json.decode(out)
    assert [e["estimator"] for e in result["estimates"]] == [
        "logged",
        "replay",
        "ips",
        "snips",
        "dr",
    ]
    assert (result["policy"], result["decisions"]) == (policy, VISITS)
    assert "effective sample size" in " ".join(err.split())
    assert (tmp_path / "obp" / "bandit_feedback.npz").is_file()


@pytest.mark.parametrize(
    ("policy", "gamma", "variances"),
    [("linucb", 0.9, "fixed"), ("shared-linucb", 1.0, "0.01,0.05,0.15")],
)
def test_the_command_evaluates_a_log_as_it_was_made(
    data: DataSet,
    data_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    policy: str,
    gamma: float,
    variances: str,
) -> None:
    hyper = None if variances == "fixed" else Hyperparameters(0.01, 0.05, 0.15)
    made = Logged(data, Policy(policy, 0.2, epsilon=0.3), gamma=gamma, hyper=hyper, visits=60)
    decisions, outcomes = files(made, tmp_path, watched=True)
    given = ["--data", str(data_folder), "--decisions", str(decisions), "--outcomes", str(outcomes)]
    asked = ["--policy", policy, "--alpha", "0.2", "--epsilon", "0.3", "--json"]
    same = ["--gamma", str(gamma), "--variances", variances]
    assert run(["evaluate", "--log", "decisions", *given, *asked, *same]) == 0
    result = msgspec.json.decode(capsys.readouterr().out)
    assert result["overlap"]["mean_weight"] == pytest.approx(1.0, abs=1e-9)
    assert result["parameters"].get("gamma", 1.0) == gamma
    assert result["parameters"].get("omega2") == (hyper.omega2 if hyper else None)


def test_a_snapshot_of_another_gamma_is_refused(
    data: DataSet,
    data_folder: Path,
    logged: Logged,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    decisions, outcomes = files(logged, tmp_path, watched=True)
    source = Source("cluster", OUTCOMES, 12)
    position = Position(0, source, 1, "test", data.config_of(0.9))
    save(tmp_path / "past.snapshot", Snapshot("main", {0: State(position, {})}))
    given = ["--data", str(data_folder), "--decisions", str(decisions), "--outcomes", str(outcomes)]
    frozen = ["--snapshot", str(tmp_path / "past.snapshot")]
    assert run(["evaluate", "--log", "decisions", *given, *frozen]) == 2
    err = capsys.readouterr().err
    assert "γ 0.9, not 1.0" in err
    assert err.count("\n") == 1
    assert run(["evaluate", "--log", "decisions", *given, *frozen, "--gamma", "0.9"]) == 0


def test_a_policys_name_in_the_log_steers_no_terminal(
    logged: Logged, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions, outcomes = files(logged, tmp_path, watched=True)
    text = decisions.read_text()
    decisions.write_text(re.sub(r'("policy": ?")', r"\1[red]\\u001b[31m", text))
    given = ["--data", str(data_folder), "--decisions", str(decisions), "--outcomes", str(outcomes)]
    assert run(["evaluate", "--log", "decisions", *given]) == 0
    out = capsys.readouterr().out
    assert "[red]\\x1b[31m" in out
    assert "\x1b" not in out


_FILES = ["--log", "decisions", "--decisions", "x", "--outcomes", "y"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--export", "x"], "--export would be ignored: add --log decisions"),
        (
            ["--kafka", "a:1", "--policy", "linucb", "--alpha", "1", "--epsilon", "0.1"],
            "--kafka, --policy, --alpha, --epsilon would be ignored: add --log decisions",
        ),
        (
            ["--log", "decisions", "--history", "h", "--product-features", "p", "--seed", "1"],
            "--history, --product-features, --seed would be ignored: leave it out, or --log",
        ),
        (["--log", "decisions", "--plot", "p.png"], "--plot would be ignored"),
        (
            [*_FILES, "--kafka", "a:1", "--patience-s", "1"],
            "--kafka, --patience-s would be ignored: the log is read from files",
        ),
        (["--log", "decisions", "--decisions", "x"], "give both"),
        (_FILES, "can't read x"),
        ([*_FILES, "--epsilon", "2"], "epsilon"),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: list[str], complaint: str, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--data", str(data_folder), *arguments]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
