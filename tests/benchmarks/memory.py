"""Bytes an arm, in the store and in the server's memory."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import numpy as np

from infra.embedded import EmbeddedStore
from server.model_view import ModelView
from shared.arm_statistics import ArmStatistics
from shared.events import OUTCOMES, key_of
from shared.partitioner import partition_of
from shared.ports import ModelConfig, Position, Source
from shared.redis_store import RedisStore
from tests.benchmarks.measure import Result, weighed

D: Final = 15
PARTITIONS: Final = 12
MOST_IN_STORE: Final = 1_300
MOST_IN_SERVER: Final = 3_500
_CONFIG: Final = ModelConfig(D, "0123456789abcdef")


def results() -> Iterator[Result]:
    """Fill a real store and load a server's view of it.

    Raises:
        EmbeddedError: no store can be started here.
    """
    with closing(EmbeddedStore()) as server:
        for count in (200, 10_000):
            store = RedisStore(server.url, f"benchmark-{count}")
            with closing(store):
                yield from _of(store, count)


def _of(store: RedisStore, count: int) -> Iterator[Result]:
    _fill(store, count)
    arms = f"{count:,} arms"
    in_store = sum(store.bytes_of(partition) for partition in range(PARTITIONS))
    yield weighed(
        f"{store.ping()}, {arms}, per arm",
        in_store / count,
        target=MOST_IN_STORE,
    )
    _held(store, count)  # what a process needs once, such as the client's buffers, is no arm's
    held, arrays = _held(store, count)
    yield weighed(f"server, {arms}, arrays per arm", arrays / count, target=MOST_IN_SERVER)
    yield weighed(f"server, {arms}, all per arm", held / count, target=MOST_IN_SERVER)


def _held(store: RedisStore, count: int) -> tuple[int, int]:
    """Bytes that a view holds once it is loaded: all, and those of its arrays."""
    products = range(1, count + 1)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        view = ModelView(store, products, _CONFIG, PARTITIONS, 1.0, time.monotonic)
        with closing(view):
            while not view.ready:
                view.refresh()
            return tracemalloc.get_traced_memory()[0] - before, view.nbytes
    finally:
        tracemalloc.stop()


def _fill(store: RedisStore, count: int) -> None:
    rng = np.random.default_rng(1)
    source = Source("benchmark", OUTCOMES, PARTITIONS)
    homes = np.array([partition_of(key_of(arm), PARTITIONS) for arm in range(1, count + 1)])
    for partition in range(PARTITIONS):
        arms = np.flatnonzero(homes == partition) + 1
        statistics = ArmStatistics(D)
        X = rng.random((len(arms), D))
        statistics.add(arms, X, X[:, 0], np.arange(len(arms)))
        position = Position(len(arms), source, 0, "benchmark", _CONFIG)
        store.write(partition, None, position, statistics.pack(arms.tolist()))
