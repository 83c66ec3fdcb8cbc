"""Presence in Redis: `reco:{<model>}:presence:<name>`, one short-lived JSON value a process."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
import redis

from shared.events import UNDECODABLE
from shared.presence import EXPIRES_S, Presence, in_order
from shared.redis_connection import RedisAddress

_TIMEOUT_S: Final = 0.5
_T = TypeVar("_T")


class RedisBoard:
    """`shared.presence.Board` on Redis, over a connection of its own.

    Args:
        url: `redis://` or `rediss://` address.
        model: name in the keys.

    Raises:
        BadAddress: this is not the URL of a Redis server.
    """

    def __init__(self, url: str, model: str) -> None:
        self._prefix = f"reco:{{{model}}}:presence:"
        self._address = RedisAddress(url, _TIMEOUT_S)
        self._client: Any = self._address.client

    def announce(self, presence: Presence) -> None:
        """See `Board.announce`."""
        said = msgspec.json.encode(presence)
        self._ask(lambda: self._client.set(self._prefix + presence.name, said, ex=EXPIRES_S))

    def present(self) -> list[Presence]:
        """See `Board.present`."""
        found = []
        for said in self._ask(self._values):
            try:
                found.append(msgspec.json.decode(said or b"", type=Presence))
            except UNDECODABLE:
                continue  # gone between the two commands, or of another version
        return in_order(found)

    def withdraw(self, name: str) -> None:
        """See `Board.withdraw`."""
        self._ask(lambda: self._client.delete(self._prefix + name))

    def close(self) -> None:
        """See `Board.close`."""
        self._client.close()

    def _values(self) -> list[bytes | None]:
        pattern = "".join(f"[{sign}]" if sign in "*?[" else sign for sign in self._prefix) + "*"
        keys = list(self._client.scan_iter(match=pattern, count=1_000))
        values: list[bytes | None] = self._client.mget(keys) if keys else []
        return values

    def _ask(self, command: Callable[[], _T]) -> _T:
        try:
            return command()
        except (redis.RedisError, OSError) as error:
            raise self._address.unavailable(error) from error
