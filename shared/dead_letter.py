"""What can't be applied is set aside as a dead letter: the record, where it lay, and why. Pure."""

from typing import Final

from shared.events import DEAD_LETTERS
from shared.ports import Outgoing, Record

MAX_BYTES: Final = 500_000
"""Of key and value; brokers take no record of more than a megabyte, unless it compresses well."""

MAX_REASON: Final = 1_000
_EXCERPT: Final = 1_000

CUT: Final = "cut"
"""Header of a letter with only the beginning of a record in it: how many bytes that had."""


def dead_letter(record: Record, reason: str) -> Outgoing:
    """The letter: enough to find the record again and, unless it is cut, to send it back.

    A record that no letter can hold must not stop those behind it, so its letter holds the
    beginning of the value and says so.
    """
    key, value = record.key, record.value
    size = len(key or b"") + len(value or b"")
    headers = [
        ("topic", record.topic.encode()),
        ("partition", b"%d" % record.partition),
        ("offset", b"%d" % record.offset),
        ("reason", reason[:MAX_REASON].encode(errors="backslashreplace")),
    ]
    if size > MAX_BYTES:
        headers.append((CUT, b"%d" % size))
        key, value = (key or b"")[:_EXCERPT], (value or b"")[:_EXCERPT]
    return DEAD_LETTERS, key, value, headers, None
