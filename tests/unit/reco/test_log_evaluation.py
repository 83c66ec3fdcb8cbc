"""A log of decisions is joined, brought to its models, evaluated and exported."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from producer.simulate import Shoppers
from reco.__main__ import run
from reco.bandit_feedback import bandit_feedback, write
from reco.event_files import UnreadableEvents, read_decisions, read_outcomes
from reco.log_evaluation import NothingToEvaluate, Rounds, evaluate_log, rounds
from reco.past_models import PastModels
from reco.shoppers import feedback_rule, reaction
from server.scorer import Policy, rank, seeds_of
from shared.catalogue import DataSet
from shared.events import OUTCOMES, Decision, Outcome, encode, key_of
from shared.partitioner import partition_of
from shared.ports import Record
from shared.settings import LAMBDA
from tests.scenario import NOON
from trainer.apply import Rules

VISITS = 300
BATCH = 20


class Logged:
    """A small run of a server and a trainer, without either."""

    def __init__(self, data: DataSet, policy: Policy) -> None:
        self.decisions: list[Decision] = []
        self.records: dict[int, list[Record]] = {}
        shoppers = Shoppers(data.users, 5, "run")
        react, feedback = reaction(data, 5, 5), feedback_rule("cascade", 5)
        rules = Rules.of(data.config, data.arms, 12)
        for start in range(0, VISITS, BATCH):
            visits = [shoppers.visit(number, NOON) for number in range(start, start + BATCH)]
            view = [len(self.records.get(partition, [])) for partition in range(12)]
            models = PastModels(data.arms, rules, self.records, LAMBDA, {})
            models.advance(view)
            X = data.encoder.encode([visit.context for visit in visits]).X
            ids = [f"d-{visit.visit_id}" for visit in visits]
            slates = rank(policy, models.model, X, seeds_of(ids), 5)
            shown = [[item.product_id for item in slate] for slate in slates]
            for visit, key, x, slate, clicked in zip(
                visits, ids, X.tolist(), slates, react(visits, shown), strict=True
            ):
                self.decisions.append(
                    Decision(
                        decision_id=key,
                        visit_id=visit.visit_id,
                        user_id=visit.user_id,
                        policy=policy.name,
                        parameters=policy.parameters,
                        x=x,
                        encoder_id=data.encoder.id,
                        view=view,
                        slate=slate,
                        decided_at=NOON,
                    )
                )
                for place, reward in feedback(clicked, 5):
                    self._publish(data, key, x, slate[place - 1].product_id, place, reward)

    def _publish(
        self, data: DataSet, key: str, x: list[float], product: int, place: int, reward: int
    ) -> None:
        outcome = Outcome(
            outcome_id=f"{key}:{place}",
            decision_id=key,
            product_id=product,
            rank=place,
            reward=float(reward),
            x=x,
            encoder_id=data.encoder.id,
            decided_at=NOON,
            resolved_at=NOON,
        )
        partition = partition_of(key_of(product), 12)
        log = self.records.setdefault(partition, [])
        log.append(Record(OUTCOMES, partition, len(log), key_of(product), encode(outcome)))

    @property
    def outcomes(self) -> list[Outcome]:
        return [
            msgspec.json.decode(record.value or b"", type=Outcome)
            for log in self.records.values()
            for record in log
        ]


@pytest.fixture(scope="module")
def logged(data: DataSet) -> Logged:
    return Logged(data, Policy("linucb", 0.2, epsilon=0.3))


@pytest.fixture(scope="module")
def joined(data: DataSet, logged: Logged) -> Rounds:
    return rounds(logged.decisions, logged.outcomes, data.arms, data.encoder.id)


def models(data: DataSet, logged: Logged) -> PastModels:
    return PastModels(data.arms, Rules.of(data.config, data.arms, 12), logged.records, LAMBDA, {})


def test_the_logged_policy_would_have_shown_what_it_showed_with_the_same_probability(
    data: DataSet, logged: Logged, joined: Rounds
) -> None:
    own = Policy("linucb", 0.2, epsilon=0.3)
    result = evaluate_log(joined, own, models(data, logged), frozen=False)
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
    result = evaluate_log(joined, calm, models(data, logged), frozen=False)
    for estimate in result.estimates:
        assert estimate.value is not None
        assert estimate.interval is not None
        assert estimate.interval[0] <= estimate.value <= estimate.interval[1]
    assert result.overlap.mean_weight == pytest.approx(1.0, abs=0.2)


def test_a_policy_that_the_log_does_not_reach_comes_with_a_caution(
    data: DataSet, logged: Logged, joined: Rounds
) -> None:
    result = evaluate_log(joined, Policy("linucb", 5.0), models(data, logged), frozen=True)
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
    result = evaluate_log(few, Policy(name), models(data, logged), frozen=False)
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
    found = rounds(log, logged.outcomes, data.arms, data.encoder.id)
    assert len(found.decisions) == VISITS - 3
    assert found.skipped == {
        "no propensities": 1,
        "another encoder": 1,
        "products that are unknown here": 1,
        "no outcome yet": 1,
    }
    with pytest.raises(NothingToEvaluate, match="1 with no propensities"):
        rounds(log[:1], logged.outcomes, data.arms, data.encoder.id)


def test_a_log_without_chance_says_so(data: DataSet) -> None:
    certain = Logged(data, Policy("linucb", 0.2))
    log = rounds(certain.decisions, certain.outcomes, data.arms, data.encoder.id)
    result = evaluate_log(log, Policy("linucb", 0.0), models(data, certain), frozen=False)
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


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('\n{"topic":"visits","partition":0,"offset":0,"value":{}}\n')
    with pytest.raises(UnreadableEvents, match="line 2: a record of visits"):
        read_decisions(path)
    path.write_text("{")
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


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--export", "x"], "belong to --log decisions"),
        (["--log", "decisions", "--decisions", "x"], "give both"),
        (["--log", "decisions", "--decisions", "x", "--outcomes", "y"], "can't read x"),
        (
            ["--log", "decisions", "--decisions", "x", "--outcomes", "y", "--epsilon", "2"],
            "epsilon",
        ),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: list[str], complaint: str, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--data", str(data_folder), *arguments]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
