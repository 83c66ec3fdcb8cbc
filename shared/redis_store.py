"""The state in Redis: one hash a partition, one compare-and-set script, one channel of changes.

    reco:{<model>:p<P>}:state      _next _src _gen _wid _cfg, and a:<arm> for every arm
    reco:{<model>:p<P>}:changes    every write: from-offset, to-offset and the rows themselves

The braces keep what belongs to a partition in one slot of a Redis Cluster.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, TypeVar

import msgspec
import redis
from redis.exceptions import NoScriptError

from shared.ports import (
    Change,
    Conflict,
    CorruptState,
    ModelConfig,
    Position,
    Rows,
    Source,
    State,
    StoreRefuses,
    StoreUnavailable,
    Write,
)
from shared.redis_changes import RedisChangeFeed, encode_change
from shared.redis_connection import RedisAddress

MAX_ROWS: Final = 1_000
MAX_BYTES: Final = 4_000_000
_PAGE: Final = 200
_ANY_STATE: Final = "reco:{*:p*}:state"
_LOOKED_AT: Final = 1_000
_LOOKS: Final = 50
"""Of so many keys each: others may keep millions in the same server."""
_ARM: Final = b"a:"
_METADATA: Final = (b"_next", b"_src", b"_gen", b"_wid", b"_cfg")
_T = TypeVar("_T")

# A script's earlier writes stay when a later line fails, and memory is checked at its first
# write: hence one HSET, and everything that can fail before it.
_COMPARE_AND_SET: Final = """
local current = redis.call('HMGET', KEYS[1], '_next', '_src', '_gen', '_wid', '_cfg')
for i = 1, 3 do
    if (current[i] or '') ~= ARGV[i] then return current end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('PUBLISH', KEYS[2], ARGV[4])
return 'OK'
"""

# Memory is checked before the first HSET; a draft is what a RENAME that failed has left.
_REPLACE: Final = """
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3])
redis.call('DEL', KEYS[3])
for start = 2, #ARGV, 2000 do
    redis.call('HSET', KEYS[3], unpack(ARGV, start, math.min(start + 1999, #ARGV)))
end
redis.call('RENAME', KEYS[3], KEYS[1])
redis.call('PUBLISH', KEYS[2], ARGV[1])
"""


class RedisStore:
    """`shared.ports.StateStore` on Redis or Valkey.

    Args:
        url: `redis://` or `rediss://` address.
        model: name in the keys.
        timeout_s: how long a command may take before the store counts as unavailable.

    Raises:
        BadAddress: this is not the URL of a Redis server.
    """

    def __init__(self, url: str, model: str, timeout_s: float = 2.0) -> None:
        self._model = model
        self._address = RedisAddress(url, timeout_s)
        self._client = self._address.client
        self._compare_and_set = self._client.register_script(_COMPARE_AND_SET)
        self._replace = self._client.register_script(_REPLACE)
        self.address = self._address.text

    def ping(self) -> str:
        """What answers there: name and version, such as `Redis 8.0.2`."""
        server = _guarded(self, lambda: self._client.info("server"))
        if "valkey_version" in server:
            return f"Valkey {server['valkey_version']}"
        return f"Redis {server['redis_version']}"

    def check(self) -> None:
        """See that a Redis server answers.

        Raises:
            StoreUnavailable: not now.
            StoreRefuses: it does not let us in, or something else listens there.
        """
        try:
            self.ping()
        except StoreRefuses:
            raise
        except StoreUnavailable as error:
            if why := self._address.misunderstanding():
                raise StoreRefuses(why) from error
            raise

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """What to raise for an error of the client."""
        return self._address.unavailable(error)

    def describe(self) -> str:
        """What it is and where, for people."""
        return f"{self.ping()} at {self.address}"

    def positions(self, partitions: Sequence[int]) -> list[Position | None]:
        """See `StateStore.positions`: one round trip."""

        def ask() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for partition in partitions:
                pipeline.hmget(self._state(partition), _METADATA)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, redis.RedisError) and not _another_type(answer):
                    raise answer
            return answers

        found = list(zip(partitions, _guarded(self, ask), strict=True))
        for partition, values in found:
            if isinstance(values, redis.RedisError):
                raise _corrupt(partition, "another type of value is at its key") from values
        return [_position(partition, values) for partition, values in found]

    def scan(self, partition: int) -> Iterator[Rows]:
        """See `StateStore.scan`: by HSCAN, so a large state does not block the server.

        On one connection: a cursor means nothing to another process than the one that gave it, and
        there would be rows that it leaves out. So nothing is tried again here.
        """
        pool, cursor = self._client.connection_pool, b"0"
        connection = _guarded(self, pool.get_connection)
        try:
            while True:
                ask = partial(_hscan, connection, self._state(partition), cursor)
                cursor, page = _guarded(self, ask)
                try:
                    rows = {int(k[len(_ARM) :]): v for k, v in page.items() if k.startswith(_ARM)}
                except ValueError as error:
                    raise _corrupt(partition, "the state has a row of no arm") from error
                if rows:
                    yield rows
                if cursor == b"0":
                    return
        finally:
            pool.release(connection)

    def write(
        self,
        partition: int,
        expected: Position | None,
        position: Position,
        rows: Mapping[int, bytes],
    ) -> Conflict | None:
        """See `StateStore.write`: one script, one HSET."""
        [conflict] = self.write_all([Write(partition, expected, position, dict(rows))])
        return conflict

    def write_all(self, writes: Sequence[Write]) -> list[Conflict | None]:
        """See `StateStore.write_all`: a pipeline for as many as 4 MB hold."""
        return [
            None if answer == b"OK" else Conflict(_position(write.partition, answer))
            for batch in _batches(writes)
            for write, answer in zip(
                batch, _guarded(self, partial(self._written, batch)), strict=True
            )
        ]

    def _written(self, writes: Sequence[Write]) -> list[Any]:
        """What the script says to each."""
        # Not by the script's own call: in a pipeline that asks each time whether it is there.
        calls = [(*self._keys(write.partition), *_arguments(write)) for write in writes]

        def run() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for call in calls:
                pipeline.evalsha(self._compare_and_set.sha, 2, *call)
            answers: list[Any] = pipeline.execute()
            return answers

        try:
            return run()
        except NoScriptError:  # a store that was started anew
            self._client.script_load(_COMPARE_AND_SET)
            return run()

    def replace(self, partition: int, state: State) -> None:
        """See `StateStore.replace`: one script, which builds it under another key and renames."""
        generation = max(state.position.generation, self._generation(partition)) + 1
        position = msgspec.structs.replace(state.position, generation=generation)
        change = Change(partition, generation, -1, position.next_offset, {})
        fields = {**_fields(position), **_arm_fields(state.rows)}
        keys = [*self._keys(partition), f"{self._state(partition)}:draft"]
        arguments = [encode_change(change), *chain.from_iterable(fields.items())]
        _guarded(self, partial(self._replace, keys=keys, args=arguments))

    def _generation(self, partition: int) -> int:
        """0 where there is none, or none that can be read: a corrupt state is to be replaced."""

        def ask() -> Any:
            try:
                return self._client.hmget(self._state(partition), ["_gen"])[0]
            except redis.ResponseError as error:
                if not _another_type(error):
                    raise
                return None

        try:
            return int(_guarded(self, ask) or 0)
        except ValueError:
            return 0

    def changes(self, partitions: Sequence[int]) -> RedisChangeFeed:
        """See `StateStore.changes`."""
        channels = {self._keys(partition)[1].encode(): partition for partition in partitions}
        return RedisChangeFeed(self._client, channels, self.unavailable)

    def bytes_of(self, partition: int) -> int:
        """Memory that the partition's hash takes in the server (`MEMORY USAGE`)."""
        size = _guarded(self, lambda: self._client.memory_usage(self._state(partition), samples=0))
        return int(size or 0)

    def models(self) -> list[str]:
        """Names under which there is a state, in order; not all where there are too many keys."""
        keys: set[str] = set()

        def look() -> None:
            cursor = 0
            for _ in range(_LOOKS):
                cursor, found = self._client.scan(cursor, match=_ANY_STATE, count=_LOOKED_AT)
                keys.update(key.decode(errors="replace") for key in found)
                if cursor == 0:
                    return

        _guarded(self, look)
        return sorted({key.removeprefix("reco:{").rpartition(":p")[0] for key in keys})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _state(self, partition: int) -> str:
        return f"reco:{{{self._model}:p{partition}}}:state"

    def _keys(self, partition: int) -> list[str]:
        return [self._state(partition), f"reco:{{{self._model}:p{partition}}}:changes"]


def _guarded(store: RedisStore, command: Callable[[], _T]) -> _T:
    """Run a command; whatever may pass by itself becomes `StoreUnavailable`."""
    try:
        return command()
    except (redis.RedisError, OSError) as error:
        raise store.unavailable(error) from error


def _another_type(error: redis.RedisError) -> bool:
    """Whether a key holds no hash: that does not pass by itself."""
    return str(error).startswith("WRONGTYPE")


def _hscan(connection: Any, key: str, cursor: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The next cursor, and a page of fields with their values."""
    connection.send_command("HSCAN", key, cursor, "COUNT", _PAGE)
    following, page = connection.read_response()
    return following, dict(zip(page[::2], page[1::2], strict=True))


def _batches(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    """Together at most `MAX_BYTES`, or one alone.

    Raises:
        ValueError: one is too large.
    """
    batch, size = list[Write](), 0
    for write in writes:
        own = sum(map(len, write.rows.values()))
        if len(write.rows) > MAX_ROWS or own > MAX_BYTES:
            raise ValueError(f"a write takes at most {MAX_ROWS} rows and {MAX_BYTES} bytes")
        if batch and size + own > MAX_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(write)
        size += own
    if batch:
        yield batch


def _arguments(write: Write) -> list[bytes]:
    """Of the script: what is expected, the announcement, and the fields with their values."""
    expected, position = write.expected, write.position
    change = Change(
        partition=write.partition,
        generation=position.generation,
        from_offset=expected.next_offset if expected else position.next_offset,
        to_offset=position.next_offset,
        rows=write.rows,
    )
    believed = _fields(expected) if expected else dict.fromkeys(_METADATA, b"")
    arguments: list[bytes] = [believed[b"_next"], believed[b"_src"], believed[b"_gen"]]
    arguments.append(encode_change(change))
    fields = {**_fields(position), **_arm_fields(write.rows)}
    return [*arguments, *chain.from_iterable(fields.items())]


def _arm_fields(rows: Mapping[int, bytes]) -> dict[bytes, bytes]:
    return {b"%s%d" % (_ARM, arm): row for arm, row in rows.items()}


def _fields(position: Position) -> dict[bytes, bytes]:
    return {
        b"_next": b"%d" % position.next_offset,
        b"_src": _source(position.source),
        b"_gen": b"%d" % position.generation,
        b"_wid": position.writer.encode(),
        b"_cfg": msgspec.json.encode(position.config),
    }


def _source(source: Source) -> bytes:
    # Compared as text, so a log without an id has to read as it did before there were any.
    known = msgspec.structs.asdict(source)
    if not source.topic_id:
        del known["topic_id"]
    return msgspec.json.encode(known)


def _position(partition: int, values: Sequence[bytes | None]) -> Position | None:
    next_offset, source, generation, writer, config = (value or b"" for value in values)
    if not any(values):
        return None
    try:
        return Position(
            next_offset=int(next_offset),
            source=msgspec.json.decode(source, type=Source),
            generation=int(generation),
            writer=writer.decode(),
            config=msgspec.json.decode(config, type=ModelConfig),
        )
    except ValueError as error:
        what = f"the state's metadata is incomplete or unreadable ({error})"
        raise _corrupt(partition, what) from error


def _corrupt(partition: int, what: str) -> CorruptState:
    return CorruptState(
        f"partition {partition}: {what}; put a snapshot in its place (`reco snapshot load --force "
        "FILE`)"
    )
