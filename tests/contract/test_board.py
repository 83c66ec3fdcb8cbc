import itertools
from collections.abc import Iterator

import pytest
import redis

from infra.embedded import EmbeddedStore
from shared.ports import StoreUnavailable
from shared.presence import EXPIRES_S
from shared.redis_connection import BadAddress
from shared.redis_presence import RedisBoard
from shared.testing import FakeBoard, FakeClock
from tests.contract.board_suite import BoardSuite, presence

models = itertools.count()


class TestFakeBoard(BoardSuite):
    @pytest.fixture
    def board(self) -> FakeBoard:
        return FakeBoard(FakeClock())

    def test_who_falls_silent_is_gone_after_a_while(self) -> None:
        clock = FakeClock()
        board = FakeBoard(clock)
        board.announce(presence("a"))
        clock.now_s = EXPIRES_S - 0.1
        assert len(board.present()) == 1
        clock.now_s = EXPIRES_S
        assert board.present() == []


class TestRealBoard(BoardSuite):
    @pytest.fixture
    def board(self, server: EmbeddedStore) -> Iterator[RedisBoard]:
        board = RedisBoard(server.url, f"m{next(models)}")
        yield board
        board.close()


def test_the_key_is_as_documented_and_expires_by_itself(server: EmbeddedStore) -> None:
    board = RedisBoard(server.url, "documented")
    board.announce(presence("host-1"))
    with redis.Redis.from_url(server.url) as client:
        [key] = client.scan_iter(match="reco:{documented}:*")
        assert key == b"reco:{documented}:presence:host-1"
        assert 0 < client.pttl(key) <= EXPIRES_S * 1_000
    board.close()


def test_models_do_not_see_each_other_even_if_one_is_named_like_a_pattern(
    server: EmbeddedStore,
) -> None:
    star, other = RedisBoard(server.url, "m*"), RedisBoard(server.url, "mine")
    other.announce(presence("a"))
    assert star.present() == []
    star.announce(presence("b"))
    assert [each.name for each in star.present()] == ["b"]
    star.close()
    other.close()


def test_what_another_version_has_said_is_left_out(server: EmbeddedStore) -> None:
    board = RedisBoard(server.url, "other")
    board.announce(presence("a"))
    with redis.Redis.from_url(server.url) as client:
        client.set("reco:{other}:presence:x", '{"kind": "oracle"}', ex=5)
    assert [each.name for each in board.present()] == ["a"]
    board.close()


def test_a_store_that_is_away_is_unavailable() -> None:
    board = RedisBoard("redis://127.0.0.1:1", "away")
    with pytest.raises(StoreUnavailable, match="does not serve"):
        board.announce(presence("a"))
    board.close()


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(BadAddress, match="no Redis address"):
        RedisBoard("nonsense", "m")
