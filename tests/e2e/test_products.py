"""Products come and go on the embedded system, while producer, server and trainer run."""

from pathlib import Path

import msgspec
import pytest

from reco.__main__ import run
from shared.events import DECISIONS, key_of
from shared.partitioner import partition_of
from shared.settings import POLICY
from tests.e2e.system import MODEL, EmbeddedSystem

NEW = "product_id,name,category,price,is_coffee\n201,Cold Brew,Drinks & Desserts,6.5,1\n"


def shown(system: EmbeddedSystem, product_id: int) -> list[str]:
    return [
        decision.decision_id
        for decision in system.decisions()
        if any(item.product_id == product_id for item in decision.slate)
    ]


def test_a_product_is_added_ranked_learned_and_retired_without_a_restart(
    system: EmbeddedSystem, data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--kafka", system.broker.address, "--data", str(data_folder)]
    (tmp_path / "new.csv").write_text(NEW)
    system.start_all()
    producer = system.produce(100_000, 100.0)
    system.await_records(DECISIONS, 50)
    assert run(["products", "add", str(tmp_path / "new.csv"), *where]) == 0
    assert capsys.readouterr().out == "added 201 Cold Brew\n"
    system.until(lambda: bool(shown(system, 201)), "the new product is ranked")
    home = partition_of(key_of(201), 12)
    system.until(
        lambda: any(201 in rows for rows in system.store.scan(home)), "the new product is learned"
    )
    assert run(["products", "retire", "201", *where]) == 0
    system.until(lambda: retired(system), "the retired product is ranked no longer")
    producer.stop()
    system.settle()
    report = system.compared()
    assert (report.differing_bits, report.lag, report.violations) == (0, 0, [])
    assert report.dead_letters == 0
    store = ["--redis", system.store_server.url, "--model", MODEL]
    assert run(["replay", "--check", *where, *store]) == 0
    capsys.readouterr()
    made = sorted(system.decisions(), key=lambda decision: decision.decided_at)
    [new, *_] = shown(system, 201)
    for decision_id in (made[0].decision_id, new, made[-1].decision_id):
        assert run(["inspect", "decision", decision_id, "--json", *where]) == 0
        report = msgspec.json.decode(capsys.readouterr().out)
        assert report["recomputed"]["same"], report
        assert report["came_of_it"] in ("clicked", "not clicked")
    assert run(["evaluate", "--log", "decisions", "--policy", POLICY, "--json", *where]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert (found["decisions"], found["skipped"]) == (len(made), {})
    assert found["overlap"]["mean_weight"] == pytest.approx(1.0, abs=1e-9)
    assert run(["products", "list", "--changed", "--json", *where]) == 0
    [row] = msgspec.json.decode(capsys.readouterr().out)
    assert (row["product_id"], row["state"], row["added"]) == (201, "retired", True)


def retired(system: EmbeddedSystem) -> bool:
    """The last 30 decisions show nothing of it."""
    latest = sorted(system.decisions(), key=lambda decision: decision.decided_at)[-30:]
    return not any(item.product_id == 201 for d in latest for item in d.slate)


def test_a_server_and_a_trainer_that_start_later_know_it_too(
    system: EmbeddedSystem, data_folder: Path, tmp_path: Path
) -> None:
    where = ["--kafka", system.broker.address, "--data", str(data_folder)]
    (tmp_path / "new.csv").write_text(NEW)
    assert run(["products", "add", str(tmp_path / "new.csv"), *where]) == 0
    assert run(["products", "retire", "1", *where]) == 0
    system.start_all()
    system.produce(200, 100.0)
    system.await_records(DECISIONS, 200)
    report = system.assert_sound(200)
    assert report.dead_letters == 0
    assert shown(system, 201)
    assert not shown(system, 1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add", "none.csv"], "can't read none.csv"),
        (["retire", "999"], "product 999 is not there"),
    ],
)
def test_wrong_input_is_one_sentence(
    system: EmbeddedSystem,
    data_folder: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    where = ["--kafka", system.broker.address, "--data", str(data_folder)]
    assert run(["products", *arguments, *where]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
