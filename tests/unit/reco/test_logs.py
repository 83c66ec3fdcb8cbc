import logging
from collections.abc import Iterator
from datetime import datetime

import msgspec
import pytest

from reco import logs
from reco.logs import say


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    logs.configure("text")


def test_for_people_it_is_the_line_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("text")
    say("serving 'linucb'")
    assert capsys.readouterr() == ("", "serving 'linucb'\n")


def test_for_people_it_steers_no_terminal_and_lines_stay_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("text")
    say("no variant:\n  \x1b[31mred\x07")
    assert capsys.readouterr().err == "no variant:\n  \\x1b[31mred\\x07\n"


def test_in_json_a_line_is_an_object_with_time_level_and_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json")
    say("no broker", logging.ERROR)
    said = msgspec.json.decode(capsys.readouterr().err)
    assert (said["level"], said["message"], said["logger"]) == ("error", "no broker", "reco")
    assert datetime.fromisoformat(said["at"]).tzinfo is not None


def test_a_record_has_fields_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.record("a visit", decision_id="d-1", clicked=None)
    said = msgspec.json.decode(capsys.readouterr().err)
    assert (said["decision_id"], said["clicked"]) == ("d-1", None)


def test_what_is_said_can_not_forge_a_second_record(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    say('x\n{"level": "error"}')
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_warnings_of_the_adapters_become_records_with_their_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("json")
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("shared.kafka").warning("does not let go of %s", "it", exc_info=True)
    said = msgspec.json.decode(capsys.readouterr().err)
    assert (said["level"], said["message"]) == ("warning", "does not let go of it")
    assert "ValueError: inner" in said["exception"]


def test_auto_is_json_where_nobody_sits_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("auto")
    say("hello")
    assert capsys.readouterr().err.startswith("{")


def test_configured_twice_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logs.configure("json")
    say("once")
    assert len(capsys.readouterr().err.splitlines()) == 1
