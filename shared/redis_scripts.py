"""Commands and scripts of Redis for an event loop that is short of time."""

import asyncio
import functools
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError, ResponseError

from shared.redis_connection import RedisAddress

_LOST: Final = (redis.ConnectionError, OSError, asyncio.IncompleteReadError)


class ScriptCall(NamedTuple):
    """What a script is run with."""

    keys: Sequence[bytes]
    arguments: Sequence[bytes | str | int]


class RedisScripts:
    """Sends commands together and reads their replies: one round trip. Belongs to one event loop.

    The client's own calls take a connection out of a pool, look whether it is still open, start a
    task for each timeout and put the connection back, which is most of what a script costs us. So
    connections stay at hand here, and one deadline holds for all. Where one turns out to be lost,
    or its reply is not waited for any longer, none of those at hand is trusted any more: nothing
    tells a connection that is half open from a store that is slow. If it is lost, the commands are
    sent once more on a new one: they have to be such as may be repeated.

    Args:
        url: `redis://`, `rediss://` or `unix://` address.
        timeout_s: how long the commands may take, unless the URL says `socket_timeout`.

    Raises:
        BadAddress: it is not the URL of a Redis server.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._address = RedisAddress(url, timeout_s)
        pool: Any = redis.asyncio.ConnectionPool.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(ExponentialBackoff(cap=0.05, base=0.01), 1),
        )
        self._timeout_s: float = pool.connection_kwargs["socket_timeout"]
        # None is said: what is left out is the client's own default, with a timer for every reply.
        pool.connection_kwargs["socket_timeout"] = None
        self._pool = pool
        self._at_hand: list[Any] = []
        self._closed = False

    async def run(self, script: str, calls: Sequence[ScriptCall]) -> list[Any]:
        """The replies of one script to each of the calls.

        Raises:
            StoreUnavailable: they may or may not have been run.
        """
        if not calls:
            return []
        commands = [
            ("EVALSHA", _digest(script), len(keys), *keys, *arguments) for keys, arguments in calls
        ]
        with self._saying_why():
            return await self._within_timeout(commands, script)

    async def execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies to these commands.

        Raises:
            StoreUnavailable: they may or may not have been executed.
        """
        with self._saying_why():
            return await self._within_timeout(commands)

    async def close(self) -> None:
        """Close the connections; nothing can be sent any more."""
        self._closed = True
        await self._give_back()
        await self._pool.aclose()

    @contextmanager
    def _saying_why(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, *_LOST) as error:
            raise self._address.unavailable(error) from error

    async def _within_timeout(
        self, commands: Sequence[Sequence[Any]], script: str | None = None
    ) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._send(commands)
                except NoScriptError:  # a store that was started anew
                    if script is None:
                        raise
                    await self._send([("SCRIPT LOAD", script)])
                    return await self._send(commands)
        except TimeoutError as error:
            raise redis.TimeoutError(f"no answer within {self._timeout_s:g} s") from error

    async def _send(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        try:
            return await self._send_once(commands)
        except _LOST:
            return await self._send_once(commands)

    async def _send_once(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        connection = await self._connection()
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            replies = [await _reply(connection) for _ in commands]
        except BaseException:
            # There may be replies on their way, for which nobody waits.
            self._at_hand.append(connection)
            await self._give_back()
            raise
        self._at_hand.append(connection)
        if self._closed:
            await self._give_back()
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def _connection(self) -> Any:
        if self._closed:
            raise redis.ConnectionError("its connections are closed")
        return self._at_hand.pop() if self._at_hand else await self._pool.get_connection()

    async def _give_back(self) -> None:
        # Closed: the pool hands them out as they are, and does not notice that a server is gone.
        doubted, self._at_hand = self._at_hand, []
        for connection in doubted:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:  # to this command; the next one has a reply of its own
        return error


@functools.cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
