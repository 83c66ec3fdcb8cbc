"""What every board of presences does."""

from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from shared.presence import Board, Presence

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def presence(name: str, **changes: Any) -> Presence:
    """A server that is well."""
    plain = Presence(
        kind="server",
        name=name,
        host="h",
        pid=1,
        started_at=NOON,
        at=NOON,
        rate_per_s=5.0,
        counts={"visits": 3},
        not_ready=[],
        partitions=[0, 1],
        positions={0: 7},
        lag=2,
        view_age_s=0.1,
        stale=False,
        policy="linucb",
        delivery="exactly-once",
    )
    return structs.replace(plain, **changes)


class BoardSuite:
    """Holds for the fake and for Redis."""

    def test_what_was_said_is_read_as_it_was_said(self, board: Board) -> None:
        board.announce(presence("a"))
        assert board.present() == [presence("a")]

    def test_who_speaks_again_is_there_once_with_the_last_word(self, board: Board) -> None:
        board.announce(presence("a", lag=2))
        board.announce(presence("a", lag=None))
        assert board.present() == [presence("a", lag=None)]

    def test_all_are_there_by_kind_and_name(self, board: Board) -> None:
        for each in (presence("b", kind="trainer"), presence("z"), presence("a")):
            board.announce(each)
        assert [each.name for each in board.present()] == ["a", "z", "b"]

    def test_who_leaves_is_gone(self, board: Board) -> None:
        board.announce(presence("a"))
        board.announce(presence("b"))
        board.withdraw("a")
        assert [each.name for each in board.present()] == ["b"]
