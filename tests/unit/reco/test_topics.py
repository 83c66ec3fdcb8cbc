"""The lines of `reco topics watch`."""

import re
from typing import Any

import msgspec
import pytest

from reco.commands.topics import json_line, line, shortened
from shared.events import VISITS
from shared.ports import Record


@pytest.mark.parametrize("timestamp_ms", [2**62, -(2**62), 10**15, -1])
def test_a_time_that_is_none_is_shown_as_none(timestamp_ms: int) -> None:
    shown = line(Record("else", 0, 7, b"k", b"v", timestamp_ms=timestamp_ms))
    assert shown.split() == ["else/0@7", "--:--:--", "k:", "v"]


def test_a_record_without_a_type_has_its_time_of_day() -> None:
    shown = line(Record("else", 0, 7, b"k", b"v", timestamp_ms=1_780_000_000_000))
    assert re.fullmatch(r"else/0@7 +\d\d:\d\d:\d\d k: v", shown)


@pytest.mark.parametrize(
    "value",
    [b"[" * 100_000, b'{"unknown":' + b"[" * 100_000, b"{", b'"\xff"', b"1e999"],
    ids=["nested", "nested in a field", "cut off", "no text", "no number"],
)
def test_a_record_that_can_not_be_read_is_shown_as_it_is(value: bytes) -> None:
    record = Record(VISITS, 0, 7, None, value)
    assert shortened(value) in line(record)
    shown: Any = msgspec.json.decode(json_line(record))
    assert shown["value"] == shortened(value, most=10_000)
