import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import redis

from infra.embedded import EmbeddedStore
from shared.ports import (
    Change,
    ChangesLost,
    CorruptState,
    State,
    StateStore,
    StoreUnavailable,
    Write,
)
from shared.redis_connection import BadAddress
from shared.redis_store import MAX_ROWS, RedisStore
from shared.testing import FakeStore
from tests.contract.store_suite import StoreSuite, heard, position

models = itertools.count()


@pytest.fixture
def real(server: EmbeddedStore) -> Iterator[RedisStore]:
    store = RedisStore(server.url, f"m{next(models)}", timeout_s=10.0)
    yield store
    store.close()


class TestFakeStore(StoreSuite):
    @pytest.fixture
    def store(self) -> StateStore:
        return FakeStore()


class TestRealStore(StoreSuite):
    @pytest.fixture
    def store(self, real: RedisStore) -> StateStore:
        return real


def test_the_keys_are_as_documented(server: EmbeddedStore) -> None:
    store = RedisStore(server.url, "documented")
    store.write(3, None, position(17), {192: b"row"})
    client = redis.Redis.from_url(server.url)
    state = client.hgetall("reco:{documented:p3}:state")
    assert isinstance(state, dict)
    assert state.keys() == {b"_next", b"_src", b"_gen", b"_wid", b"_cfg", b"a:192"}
    assert (state[b"_next"], state[b"_gen"], state[b"a:192"]) == (b"17", b"1", b"row")
    # To the byte: the script compares it, also with what was written before topics had ids.
    assert state[b"_src"] == (
        b'{"cluster_id":"cluster","topic":"outcomes","partitions":12,"partitioner":"murmur2"}'
    )
    client.close()
    store.close()


def test_more_rows_than_a_write_may_hold_are_refused(real: RedisStore) -> None:
    rows = dict.fromkeys(range(MAX_ROWS + 1), b"")
    with pytest.raises(ValueError, match="at most"):
        real.write(0, None, position(1), rows)
    with pytest.raises(ValueError, match="at most"):
        real.write(0, None, position(1), {1: bytes(4_000_001)})


def test_several_writes_may_be_more_than_one_may(real: RedisStore) -> None:
    rows = {arm: bytes(15_000) for arm in range(100)}
    writes = [Write(partition, None, position(1), rows) for partition in range(5)]
    assert real.write_all(writes) == [None] * 5
    assert real.positions(range(5)) == [position(1)] * 5
    with pytest.raises(ValueError, match="at most"):
        real.write_all([Write(5, None, position(1), {1: bytes(4_000_001)})])


def test_a_store_that_has_forgotten_its_scripts_is_told_them_again(
    server: EmbeddedStore, real: RedisStore
) -> None:
    client = redis.Redis.from_url(server.url)
    client.script_flush()
    client.close()
    assert real.write_all([Write(p, None, position(1), {}) for p in range(3)]) == [None] * 3


def test_half_a_state_is_called_corrupt(server: EmbeddedStore) -> None:
    store = RedisStore(server.url, "half")
    store.write(0, None, position(1), {})
    client = redis.Redis.from_url(server.url)
    client.hdel("reco:{half:p0}:state", "_src")
    with pytest.raises(CorruptState, match=r"partition 0: .* incomplete .*`reco snapshot load"):
        store.positions([0])
    client.close()
    store.close()


@pytest.mark.parametrize(
    ("field", "value", "generation"),
    [("_src", None, 6), ("_cfg", "{", 6), ("_gen", "many", 2), ("_gen", None, 2)],
)
def test_a_corrupt_state_can_be_replaced(
    server: EmbeddedStore, real: RedisStore, field: str, value: str | None, generation: int
) -> None:
    real.write(0, None, msgspec.structs.replace(position(1), generation=5), {1: b"row"})
    client = redis.Redis.from_url(server.url)
    if value is None:
        client.hdel(real._state(0), field)
    else:
        client.hset(real._state(0), field, value)
    client.close()
    real.replace(0, State(position(7), {2: b"other"}))
    [found] = real.positions([0])
    assert found == msgspec.structs.replace(position(7), generation=generation)
    assert list(real.scan(0)) == [{2: b"other"}]


def test_a_key_of_another_type_is_called_corrupt_and_can_be_replaced(
    server: EmbeddedStore, real: RedisStore
) -> None:
    real.write(0, None, position(1), {1: b"row"})
    client = redis.Redis.from_url(server.url)
    client.set(real._state(1), "somebody else's")
    client.close()
    with pytest.raises(CorruptState, match=r"partition 1: another type .*`reco snapshot load"):
        real.positions([0, 1])
    real.replace(1, State(position(7), {2: b"other"}))
    assert [at.next_offset for at in real.positions([0, 1]) if at] == [1, 7]
    assert list(real.scan(1)) == [{2: b"other"}]


def test_a_row_of_no_arm_is_called_corrupt(server: EmbeddedStore, real: RedisStore) -> None:
    real.write(0, None, position(1), {1: b"row"})
    client = redis.Redis.from_url(server.url)
    client.hset(real._state(0), "a:one", "row")
    client.close()
    with pytest.raises(CorruptState, match=r"partition 0: .* row of no arm; .*`reco snapshot load"):
        list(real.scan(0))


def test_of_two_who_replace_a_state_at_once_one_prevails_whole(real: RedisStore) -> None:
    states = [
        State(position(number), dict.fromkeys(range(2_500), b"%d" % number)) for number in (1, 2)
    ]

    def replace(state: State) -> None:
        for _ in range(20):
            real.replace(0, state)

    with ThreadPoolExecutor() as threads:
        list(threads.map(replace, states))
    rows = {arm: row for page in real.scan(0) for arm, row in page.items()}
    [now] = real.positions([0])
    assert now
    assert rows == states[now.next_offset - 1].rows


def test_a_scan_is_not_continued_on_another_connection(
    server: EmbeddedStore, real: RedisStore
) -> None:
    """Who answers there may be another process, to which the cursor means something else."""
    real.write(0, None, position(1), {arm: bytes(100) for arm in range(1_000)})
    pages = real.scan(0)
    next(pages)
    client = redis.Redis.from_url(server.url)
    client.client_kill_filter(_type="normal", skipme=True)
    client.close()
    with pytest.raises(StoreUnavailable):
        list(pages)
    assert sum(len(page) for page in real.scan(0)) == 1_000


def test_a_cut_connection_says_that_changes_may_be_lost_and_then_goes_on(
    server: EmbeddedStore, real: RedisStore
) -> None:
    feed = real.changes([0, 1])
    client = redis.Redis.from_url(server.url)
    client.client_kill_filter(_type="pubsub")
    client.close()
    with pytest.raises(ChangesLost):
        heard(feed, 1)
    real.write(0, None, position(1), {1: b"a"})
    assert [change.rows for change in heard(feed, 1)] == [{1: b"a"}]
    feed.close()


@pytest.mark.parametrize(
    "announced",
    [
        b"{",
        b"\x91" * 5_000,
        msgspec.msgpack.encode(
            Change(partition=99, generation=1, from_offset=0, to_offset=1, rows={})
        ),
    ],
    ids=["undecodable", "nested", "of another partition"],
)
def test_an_announcement_that_is_none_is_a_change_that_was_lost(
    server: EmbeddedStore, real: RedisStore, announced: bytes
) -> None:
    feed = real.changes([0])
    client = redis.Redis.from_url(server.url)
    [channel] = feed._channels
    client.publish(channel, announced)
    with pytest.raises(ChangesLost, match="unreadable"):
        feed.drain(5.0)
    real.write(0, None, position(1), {1: b"row"})
    assert [change.rows for change in heard(feed, 1)] == [{1: b"row"}]
    client.close()
    feed.close()


def test_a_store_that_is_away_is_unavailable_and_named() -> None:
    server = EmbeddedStore()
    store = RedisStore(server.url, "away", timeout_s=10.0)
    store.ping()
    feed = store.changes([0])
    server.kill()
    with pytest.raises(StoreUnavailable, match=str(server.port)):
        store.positions([0])
    with pytest.raises(StoreUnavailable):
        store.write(0, None, position(1), {})
    with pytest.raises(ChangesLost):
        feed.drain(0.1)
    server.start()
    assert store.positions([0]) == [None]
    feed.close()
    store.close()
    server.close()


def test_a_store_without_memory_refuses_a_write_whole(server: EmbeddedStore) -> None:
    store = RedisStore(server.url, "full")
    store.write(0, None, position(1), {1: b"a"})
    client = redis.Redis.from_url(server.url)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="memory"):
            store.write(0, position(1), position(2), {1: b"b"})
    finally:
        client.config_set("maxmemory", "0")
    assert store.positions([0]) == [position(1)]
    client.close()
    store.close()


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:1", "redis://host:port"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadAddress, match="no Redis address"):
        RedisStore(url, "m")
