"""Waiting for what other processes and threads do in their own time."""

import time
from collections.abc import Callable

import httpx
from confluent_kafka import KafkaException

from shared.ports import BrokerUnavailable, StoreUnavailable

_POLL_S = 0.02
_AWAY = (BrokerUnavailable, StoreUnavailable, KafkaException, httpx.TransportError)


def until(
    condition: Callable[[], bool],
    what: str,
    within_s: float = 240.0,
    words: Callable[[], str] = str,
) -> None:
    """Return once something is so; fail, and say what never was, if it takes too long.

    Broker, store and servers may be away meanwhile.

    Args:
        condition: whether it is so.
        what: for the failure.
        within_s: how long it may take.
        words: what else to say then.
    """
    deadline_s = time.monotonic() + within_s
    while True:
        why = ""
        try:
            if condition():
                return
        except _AWAY as error:
            why = f" ({error})"
        assert time.monotonic() < deadline_s, f"never {what}{why}{words()}"
        time.sleep(_POLL_S)


def ready(url: str) -> bool:
    """Whether a server wants requests."""
    return httpx.get(f"{url}/readyz", timeout=30.0).status_code == httpx.codes.OK
