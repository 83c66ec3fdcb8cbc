from pathlib import Path

import pytest
import redis

from reco.fleet import Child, ChildFailed
from tests.waiting import until


def embedded(tmp_path: Path) -> Child:
    """A process that runs until it is ended, and first says a line of JSON."""
    return Child("embedded", ["embedded", "--json"], tmp_path / "log")


def test_what_a_child_says_is_read(tmp_path: Path) -> None:
    child = embedded(tmp_path)
    assert child.lines.get(timeout=30.0).keys() == {"kafka", "redis", "broker", "store"}
    assert child.alive
    child.stop()
    assert (child.alive, child.finished) == (False, True)


def test_a_child_that_was_killed_is_started_again(tmp_path: Path) -> None:
    child = embedded(tmp_path)
    child.lines.get(timeout=30.0)
    assert not child.check()
    child.kill()
    assert child.check()
    child.lines.get(timeout=30.0)
    assert (child.alive, child.starts) == (True, 2)
    child.stop()


def test_the_store_goes_with_its_owner_even_if_that_is_killed(tmp_path: Path) -> None:
    child = embedded(tmp_path)
    url = child.lines.get(timeout=30.0)["redis"]
    child.kill()

    def gone() -> bool:
        try:
            with redis.Redis.from_url(url) as client:
                return not client.ping()
        except redis.ConnectionError:
            return True

    until(gone, "the store gone")


def test_a_child_that_ended_well_is_left_alone(tmp_path: Path) -> None:
    child = Child("version", ["--version"], tmp_path / "log")
    until(lambda: child.finished, "finished")
    assert not child.check()
    child.stop()


def test_a_child_that_dies_again_and_again_is_given_up_with_its_words(tmp_path: Path) -> None:
    child = Child("wrong", ["train", "--static", "half"], tmp_path / "log")

    def try_on() -> bool:
        child.check()
        return False

    with pytest.raises(ChildFailed, match="wrong does not stay up; it says: reco train"):
        until(try_on, "given up")
    child.stop()


def test_a_child_may_be_another_module_with_an_environment_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "said.py").write_text(
        "import json, os; print(json.dumps({'name': os.environ['X']}))"
    )
    environment = {"PYTHONPATH": str(tmp_path), "X": "y"}
    child = Child("said", [], tmp_path / "log", module="said", environment=environment)
    assert child.lines.get(timeout=30.0) == {"name": "y"}
    until(lambda: child.finished, "finished")
    child.stop()


def test_a_child_goes_without_variables_that_it_is_not_to_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "said.py").write_text("import json, os; print(json.dumps(dict(os.environ)))")
    monkeypatch.setenv("RECO_GAMMA", "0.9")
    monkeypatch.setenv("RECORD", "kept")
    environment = {"PYTHONPATH": str(tmp_path), "RECO_X": "y"}
    child = Child(
        "said", [], tmp_path / "log", module="said", environment=environment, without=("RECO_",)
    )
    said = child.lines.get(timeout=30.0)
    assert (said["RECORD"], said["RECO_X"], said.get("RECO_GAMMA")) == ("kept", "y", None)
    child.stop()
