"""Redis' address in, connected adapters out."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import click

from shared.ports import StoreRefuses, StoreUnavailable
from shared.redis_connection import BadAddress
from shared.redis_presence import RedisBoard
from shared.redis_store import RedisStore

_RETRY_S: Final = 0.2


def open_store(redis: str, model: str, patience_s: float) -> RedisStore:
    """Connect to Redis.

    Raises:
        StoreUnavailable: nobody answered within `patience_s`.
        StoreRefuses: someone did, and waiting will not make it let us in.
        click.UsageError: this is not the URL of a Redis server.
    """
    store = store_at(redis, model)
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            store.check()
            return store
        except StoreRefuses:
            raise
        except StoreUnavailable as error:
            if time.monotonic() >= deadline_s:
                raise StoreUnavailable(f"{error} (tried for {patience_s:g} s)") from error
            time.sleep(_RETRY_S)


def store_at(redis: str, model: str) -> RedisStore:
    """The store, whether it answers or not.

    Raises:
        click.UsageError: this is not the URL of a Redis server.
    """
    with _address():
        return RedisStore(redis, model)


def open_board(redis: str, model: str) -> RedisBoard:
    """Where processes say that they are there; connects when it is first used.

    Raises:
        click.UsageError: this is not the URL of a Redis server.
    """
    with _address():
        return RedisBoard(redis, model)


def no_state(store: RedisStore, model: str) -> click.ClickException:
    """What to raise where nothing is stored of a model: a name that is wrong, or a new one."""
    names: list[str] = []
    with suppress(StoreUnavailable):  # the user of a trainer may not look
        names = store.models()
    others = f", but of {', '.join(names)}" if names else ""
    return click.ClickException(
        f"the store at {store.address} holds no state of a model {model!r}{others}: check --model; "
        "a new model has one from its first outcomes on"
    )


@contextmanager
def _address() -> Iterator[None]:
    try:
        yield
    except BadAddress as error:
        raise click.UsageError(f"--redis is {error}") from error
