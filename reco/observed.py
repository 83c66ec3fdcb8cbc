"""What a running service shows of itself: metrics and health over HTTP, presence on the board.

All of it happens beside the service, on a thread of its own and over connections of its own: a
scraper that hangs, a broker that does not say where its logs end, a store that is away, none of
them holds the service up.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol

import click

from reco.logs import say
from reco.options import Address
from reco.process import utc_now
from shared.exporter import CannotListen, Exporter
from shared.health import Health, Reasons
from shared.metrics import ServiceMetrics
from shared.ports import BrokerUnavailable, StoreUnavailable
from shared.presence import Board, Presence

EVERY_S: Final = 1.0
_LEAVE_S: Final = 2.0

_log = logging.getLogger(__name__)


class State(NamedTuple):
    """What a service says of itself, beside its name and lag."""

    partitions: list[int]
    """Those that are its own, of the topic that it reads."""
    positions: dict[int, int]
    """See `Presence.positions`."""
    view_age_s: float | None = None
    stale: bool | None = None
    policy: str | None = None
    delivery: str | None = None
    experiment: str | None = None
    stream: bool | None = None


class Service(Protocol):
    """A service, as it is observed: from another thread, while it works."""

    @property
    def kind(self) -> Literal["server", "trainer", "producer"]: ...

    @property
    def metrics(self) -> ServiceMetrics: ...

    def not_ready(self) -> list[str]:
        """Why it should get no work; empty if it should."""

    def done(self) -> int:
        """What its rate counts."""

    def counts(self) -> dict[str, int]:
        """All that it counts."""

    def state(self) -> State:
        """Where it stands."""

    def lag(self) -> tuple[str, dict[int, int]]:
        """The topic it reads, and how far behind its end each of its partitions is.

        Raises:
            BrokerUnavailable: no answer.
        """


class Observer(threading.Thread):
    """Looks at a service once a second: asks the broker for its lag, and tells the board.

    Args:
        service: who.
        name: its name (`process_name`).
        board: where presence is told; None for nowhere.
        clock: monotonic seconds.
        utc_now: the time for people.
        not_alive: why it has to be started anew.
    """

    def __init__(
        self,
        service: Service,
        name: str,
        board: Board | None,
        clock: Callable[[], float],
        utc_now: Callable[[], datetime],
        not_alive: Callable[[], Reasons] = lambda: (),
    ) -> None:
        super().__init__(name="observer", daemon=True)
        self._not_alive = not_alive
        self._service = service
        self._process = name
        self._board = board
        self._clock = clock
        self._utc_now = utc_now
        self._started_at = utc_now()
        self._stopping = threading.Event()
        self._looked_s, self._done, self._rate = clock(), service.done(), 0.0
        self._lag: dict[tuple[str, ...], float] | None = None
        service.metrics.lag.read(lambda: self._lag or {})
        service.metrics.ready.read(lambda: float(not self._not_ready()))

    @property
    def health(self) -> Health:
        """What `/livez` and `/readyz` answer from."""
        return Health(self._not_alive, self._not_ready)

    def run(self) -> None:
        """Look, until told to end."""
        while not self._stopping.wait(EVERY_S):
            self.look()

    def look(self) -> None:
        """Look once: take the rate and the lag, and announce this process on the board."""
        now_s, done = self._clock(), self._service.done()
        if now_s > self._looked_s:
            self._rate = (done - self._done) / (now_s - self._looked_s)
        self._looked_s, self._done = now_s, done
        try:
            topic, behind = self._service.lag()
            self._lag = {(topic, str(p)): float(lag) for p, lag in behind.items()}
        except BrokerUnavailable as error:
            self._lag = None  # unknown is not the last value known
            _log.debug("lag: %s", error)
        if self._board:
            try:
                self._board.announce(self._presence())
            except StoreUnavailable as error:
                _log.debug("presence: %s", error)

    def end(self) -> None:
        """Stop looking, and leave the board."""
        self._stopping.set()
        if self.is_alive():
            self.join(_LEAVE_S)
        if self._board and not self.is_alive():
            with suppress(StoreUnavailable):
                self._board.withdraw(self._process)
            self._board.close()

    def _not_ready(self) -> list[str]:
        return [*self._not_alive(), *self._service.not_ready()]

    def _presence(self) -> Presence:
        return Presence(
            kind=self._service.kind,
            name=self._process,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            at=self._utc_now(),
            rate_per_s=round(self._rate, 1),
            counts=self._service.counts(),
            not_ready=self._not_ready(),
            lag=None if self._lag is None else int(sum(self._lag.values())),
            **self._service.state()._asdict(),
        )


@contextmanager
def observed(
    service: Service,
    name: str,
    metrics_at: Address | None,
    board: Board | None = None,
    not_alive: Callable[[], Reasons] = lambda: (),
) -> Iterator[None]:
    """Show a service for as long as the block lasts; the arguments are those of `Observer`.

    Raises:
        click.UsageError: `metrics_at` can't be listened on.
    """
    observer = Observer(service, name, board, time.monotonic, utc_now, not_alive)
    exporter = None
    if metrics_at:
        try:
            exporter = Exporter(*metrics_at, service.metrics.registry, observer.health)
        except CannotListen as error:
            raise click.UsageError(f"{error}; give --metrics another address") from error
        say(f"metrics at {exporter.url}/metrics, health at /livez and /readyz")
    observer.start()
    try:
        yield
    finally:
        observer.end()
        if exporter:
            exporter.close()


def by_partition(offsets: Mapping[int, int]) -> dict[tuple[str, ...], float]:
    """Offsets as a metric labelled by partition."""
    return {(str(partition),): float(offset) for partition, offset in offsets.items()}
