"""The changes of the state that are announced on Redis' channels, by publish and subscribe."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import redis

from shared.events import UNDECODABLE
from shared.ports import Change, ChangesLost, StoreUnavailable

encode_change = msgspec.msgpack.Encoder().encode
"""A change as it is announced."""
_decode = msgspec.msgpack.Decoder(Change).decode


class RedisChangeFeed:
    """`shared.ports.ChangeFeed`.

    Args:
        client: redis-py's.
        channels: of each partition → its number.
        unavailable: what to raise for an error of the client.

    Raises:
        StoreUnavailable: not now.
    """

    def __init__(
        self,
        client: Any,
        channels: Mapping[bytes, int],
        unavailable: Callable[[Exception], StoreUnavailable],
    ) -> None:
        self._unavailable = unavailable
        self._pubsub = client.pubsub(ignore_subscribe_messages=False)
        self._channels = channels
        self._subscribe()

    def drain(self, wait_s: float = 0.0) -> list[Change]:
        """See `ChangeFeed.drain`."""
        changes: list[Change] = []
        try:
            if not self._pubsub.subscribed:
                self._subscribe()
                raise ChangesLost
            while message := self._pubsub.get_message(timeout=0.0 if changes else wait_s):
                if message["type"] == "message":
                    changes.append(self._change(message["channel"], message["data"]))
                elif message["type"] == "subscribe":
                    # Only after a reconnect: what was published in between is gone.
                    self._await_subscriptions(len(self._channels) - 1)
                    raise ChangesLost
        except (redis.RedisError, OSError, StoreUnavailable) as error:
            self._pubsub.reset()
            raise ChangesLost(str(error)) from error
        except UNDECODABLE as error:  # the channel is open to others
            raise ChangesLost(f"an announcement is unreadable: {error}") from error
        return changes

    def close(self) -> None:
        """Unsubscribe and close the connection."""
        self._pubsub.close()

    def _change(self, channel: bytes, announced: bytes) -> Change:
        change = _decode(announced)
        if change.partition != self._channels[channel]:
            raise msgspec.ValidationError(f"it is of partition {change.partition}")
        return change

    def _subscribe(self) -> None:
        try:
            self._pubsub.subscribe(*self._channels)
            self._await_subscriptions(len(self._channels))
        except (redis.RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def _await_subscriptions(self, count: int) -> None:
        while count:
            message = self._pubsub.get_message(timeout=1.0)
            if message is None:
                raise redis.TimeoutError("no answer to SUBSCRIBE")
            # A change that arrives in between is older than the state that is read next.
            count -= message["type"] == "subscribe"
