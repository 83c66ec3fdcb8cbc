import pytest

from shared.dead_letter import CUT, MAX_BYTES, MAX_REASON, dead_letter
from shared.events import DEAD_LETTERS
from shared.ports import Record


def test_a_letter_holds_the_record_and_says_where_it_lay_and_why() -> None:
    topic, key, value, headers, _ = dead_letter(Record("visits", 2, 7, b"k", b"{"), "undecodable")
    assert (topic, key, value) == (DEAD_LETTERS, b"k", b"{")
    assert dict(headers) == {
        "topic": b"visits",
        "partition": b"2",
        "offset": b"7",
        "reason": b"undecodable",
    }


@pytest.mark.parametrize(
    ("key", "value"), [(b"k", b"v" * MAX_BYTES), (b"k" * 700_000, None), (None, b"v" * 20_000_000)]
)
def test_of_a_record_that_no_letter_can_hold_the_beginning_is_kept(
    key: bytes | None, value: bytes | None
) -> None:
    _, kept_key, kept_value, headers, _ = dead_letter(Record("visits", 0, 7, key, value), "why")
    assert len(kept_key or b"") + len(kept_value or b"") <= MAX_BYTES
    assert (key or b"").startswith(kept_key or b"")
    assert (value or b"").startswith(kept_value or b"")
    assert int(dict(headers)[CUT]) == len(key or b"") + len(value or b"")


def test_a_reason_is_short() -> None:
    *_, headers, _ = dead_letter(Record("visits", 0, 7, None, None), "\udc80" + "x" * 2_000_000)
    assert len(dict(headers)["reason"]) <= MAX_REASON + 10
