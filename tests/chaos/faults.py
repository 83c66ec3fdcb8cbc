"""The faults: each does its worst a number of times and says how long every recovery took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from tests.chaos.stage import (
    RECOVERY_LIMIT_S,
    SESSION_TIMEOUT_S,
    NotRecovered,
    Recovery,
    Stage,
    continued,
    stopped,
)

SERVERS: Final = 3
TRAINERS: Final = 2
Tell = Callable[[str], None]


class DidNotBite(Exception):
    """The fault had no effect, so surviving it proves nothing."""


class Fault(NamedTuple):
    """One kind of fault."""

    name: str
    title: str
    once: Callable[[Stage], list[Recovery]]
    """Do it once; returns the recoveries, if they can be told."""
    times: int
    times_short: int
    named: bool = True
    """Whether the processes keep their place in their group (`Stage.scale`)."""


def kill_trainer(stage: Stage) -> list[Recovery]:
    """SIGKILL, and start it again; the naive one likewise."""
    for naive in stage.naive.some(stage.random):
        naive.kill()
    return [_killed(stage, "trainer")]


def kill_server(stage: Stage) -> list[Recovery]:
    """SIGKILL, and start it again."""
    return [_killed(stage, "server")]


def freeze_trainer(stage: Stage) -> list[Recovery]:
    """SIGSTOP until the group has given its partitions away, then SIGCONT: a zombie."""
    beside = stage.naive.some(stage.random)
    for naive in beside:
        stopped(naive)
    try:
        return _frozen(stage, "trainer")
    finally:
        for naive in beside:
            continued(naive)


def freeze_server(stage: Stage) -> list[Recovery]:
    """The same for a server."""
    return _frozen(stage, "server")


def kill_store(stage: Stage) -> list[Recovery]:
    """`docker kill` of Redis, and start it again after a while."""
    stage.store_server.kill()
    stage.hold(2.0)
    stage.store_server.start()
    return [stage.recovery()]


def kill_broker(stage: Stage) -> list[Recovery]:
    """`docker kill` of the broker, and start it again after a while."""
    stage.broker.kill()
    stage.hold(2.0)
    stage.broker.start()
    return [stage.recovery()]


def kill_and_pause_broker(stage: Stage) -> list[Recovery]:
    """The same, and then a pause while the groups are being put together again.

    Who asks to join while nobody answers asks again, and the broker counts it twice.
    """
    stage.broker.kill()
    stage.hold(2.0)
    stage.broker.start()
    stage.hold(2.0 + 6.0 * stage.random.random())
    return pause_broker(stage)


def pause_store(stage: Stage) -> list[Recovery]:
    """`docker pause` of Redis: it neither answers nor refuses."""
    stage.store_server.pause()
    stage.hold(_PAUSE_S)
    stage.store_server.unpause()
    return [stage.recovery()]


def pause_broker(stage: Stage) -> list[Recovery]:
    """`docker pause` of the broker."""
    stage.broker.pause()
    stage.hold(_PAUSE_S)
    stage.broker.unpause()
    return [stage.recovery()]


def roll_store_back(stage: Stage) -> list[Recovery]:
    """Redis comes back with its files of some seconds ago."""
    store = stage.store_server
    store.pause()
    store.shell("rm -rf older && cp -a appendonlydir older")
    store.unpause()
    # As far as the copy or further. Afterwards nothing can be told: trainers heal it at once.
    copied = _stored(stage)
    stage.hold(3.0)
    before = _stored(stage)
    store.kill()
    store.shell("rm -rf appendonlydir && mv older appendonlydir")
    store.start()
    if not any(offset > copied.get(partition, 0) for partition, offset in before.items()):
        raise DidNotBite("the store's copy is not older than the store")
    return [stage.recovery()]


def flush_store(stage: Stage) -> list[Recovery]:
    """Everything in Redis is gone."""
    stage.hold(3.0)
    stage.store_server.client.flushall()
    return [stage.recovery()]


def fill_memory(stage: Stage) -> list[Recovery]:
    """Redis refuses writes: its memory is full."""
    client = stage.store_server.client
    client.config_set("maxmemory", 1)
    with _no_progress(stage):
        stage.hold(5.0)
    client.config_set("maxmemory", 0)
    return [stage.recovery()]


def fill_disk(stage: Stage) -> list[Recovery]:
    """Redis refuses writes: the disk of its append-only file is full."""
    store = stage.store_server
    store.shell("dd if=/dev/zero of=fill bs=64k 2>/dev/null || true")
    stage.hold(2.0)  # it notices at its next write to the file
    with _no_progress(stage):
        stage.hold(4.0)
    store.shell("rm fill")
    return [stage.recovery()]


def join_and_leave(stage: Stage) -> list[Recovery]:
    """Servers 1 → 4 → 1 and trainers 1 → 3 → 1, whatever the last change has come to."""
    stage.scale(4, 3, named=False)
    stage.hold(_STORM_STEP_S)
    stage.scale(1, 1, named=False)
    stage.hold(_STORM_STEP_S)
    return []


_PAUSE_S: Final = 20.0
_STORM_STEP_S: Final = 4.0
_FROZEN_S: Final = SESSION_TIMEOUT_S + 3.0

FAULTS: Final = (
    Fault("trainer-kill", "SIGKILL of a random trainer", kill_trainer, 200, 5),
    Fault("server-kill", "SIGKILL of a random server", kill_server, 100, 5),
    Fault(
        "trainer-kill-unnamed",
        "SIGKILL of a random trainer without a place kept in the group",
        kill_trainer,
        10,
        1,
        named=False,
    ),
    Fault("trainer-zombie", "SIGSTOP of a trainer for 9 s, then SIGCONT", freeze_trainer, 4, 1),
    Fault("server-zombie", "SIGSTOP of a server for 9 s, then SIGCONT", freeze_server, 4, 1),
    Fault("store-kill", "`docker kill` of Redis", kill_store, 5, 1),
    Fault("broker-kill", "`docker kill` of the broker", kill_broker, 5, 1),
    Fault("store-pause", "`docker pause` of Redis for 20 s", pause_store, 2, 1),
    Fault("broker-pause", "`docker pause` of the broker for 20 s", pause_broker, 2, 1),
    Fault(
        "broker-kill-pause",
        "`docker kill` of the broker, and a pause once it is back, no place kept in the group",
        kill_and_pause_broker,
        4,
        0,
        named=False,
    ),
    Fault("store-rollback", "Redis back with an older append-only file", roll_store_back, 4, 1),
    Fault("store-flush", "Redis flushed", flush_store, 4, 1),
    Fault("store-memory", "Redis out of memory for 5 s", fill_memory, 4, 1),
    Fault("store-disk", "Redis' disk full for 6 s", fill_disk, 4, 1),
    Fault(
        "storm",
        "servers 1 → 4 → 1 and trainers 1 → 3 → 1, every 4 s",
        join_and_leave,
        15,
        1,
        named=False,
    ),
)


def strike(stage: Stage, fault: Fault, times: int, tell: Tell) -> list[Recovery]:
    """Do it so many times, one after the other, each as soon as the last is recovered from."""
    recoveries: list[Recovery] = []
    for number in range(1, times + 1):
        time.sleep(stage.random.random() * 0.2)
        recoveries += fault.once(stage)
        tell(f"{fault.name} {number}/{times}")
    return recoveries


def _killed(stage: Stage, kind: str) -> Recovery:
    victim = stage.one_of(kind)
    struck_s = time.monotonic()
    victim.kill()
    marks = stage.poison.probe()
    victim.start()
    return stage.await_past(marks, struck_s)


def _frozen(stage: Stage, kind: str) -> list[Recovery]:
    victim = stage.one_of(kind)
    struck_s = time.monotonic()
    stopped(victim)
    try:
        taken_over = stage.recovery(struck_s)
        stage.hold(max(0.0, _FROZEN_S - (time.monotonic() - struck_s)))
    finally:
        continued(victim)
    return [taken_over, stage.recovery()]


@contextmanager
def _no_progress(stage: Stage) -> Iterator[None]:
    """Hold a fault to its word: while it lasts, nothing is learned."""
    before = _stored(stage)
    yield
    if _stored(stage) != before:
        raise DidNotBite("outcomes were learned although nothing can have been stored")


def _stored(stage: Stage) -> dict[int, int]:
    """Next outcome of each partition; a store that does not answer in time is asked again."""
    deadline_s = time.monotonic() + RECOVERY_LIMIT_S
    while not (found := stage.learned_until()):
        if time.monotonic() > deadline_s:
            raise NotRecovered("the store does not say what is learned")
        stage.mend()
    return found
