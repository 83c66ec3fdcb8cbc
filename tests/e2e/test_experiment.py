"""Two policies side by side on the embedded system: each user has one, and all rows are shared."""

from pathlib import Path

import msgspec
import pytest

from reco.__main__ import run
from server.experiment import parse
from server.scorer import Policy
from shared.events import VISITS
from tests.e2e.system import EmbeddedSystem


def test_two_policies_serve_side_by_side_and_are_compared(
    system: EmbeddedSystem, data_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = "shared-linucb/epsilon=0.1"
    split = f"{learner}:50,random:50"
    system.start("trainer", "train")
    system.start("server", "serve", experiment=split, experiment_name="coffee")
    system.await_joined()
    for name, sent in (("first", 150), ("second", 300)):  # those after what the first have taught
        system.produce(150, 150.0, name)
        system.await_records(VISITS, sent)
        system.assert_sound(sent)
    traffic = parse(split, Policy, "coffee")
    for decision in system.decisions():
        assert decision.experiment == "coffee"
        assert decision.variant == traffic.variant_of(decision.user_id).name
    where = ["--kafka", system.broker.address, "--data", str(data_folder)]
    assert run(["experiment", *where, "--json", "--control", learner]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found["experiment"] == "coffee"
    control, other = found["variants"]
    assert (control["variant"], other["variant"]) == (learner, "random")
    assert control["visits"] + other["visits"] == 300
    low, high = other["difference_interval"]
    assert low <= other["difference"] <= high
    assert -1.0 < other["uplift_share"] < control["uplift_share"] - 0.25 <= 0.75
    looked = ["--kafka", system.broker.address, "--redis", system.addresses.redis]
    looked += ["--model", system.model, "--json"]
    run(["status", *looked])
    assert msgspec.json.decode(capsys.readouterr().out)["experiment"] is None
    run(["status", *looked, "--data", str(data_folder), "--experiment"])
    status = msgspec.json.decode(capsys.readouterr().out)
    assert status["experiment"]["experiment"] == "coffee"
    shown = {each["variant"]: each for each in status["experiment"]["variants"]}
    for each in found["variants"]:
        for name in ("visits", "clicks", "click_rate", "uplift_share"):
            assert shown[each["variant"]][name] == each[name]
    assert shown[learner]["difference"] == -other["difference"]  # the control is the first by name
    assert run(["experiment", *where]) == 0
    assert "experiment coffee" in capsys.readouterr().out
    assert run(["evaluate", "--log", "decisions", *where, "--json", "--policy", "linucb"]) == 0
    result = msgspec.json.decode(capsys.readouterr().out)
    assert result["decisions"] == 300
    assert set(result["logged"]) == {"shared-linucb", "random"}
