"""From click, or the window's end, to outcomes in Kafka: exactly once in effect.

The window decides in one step what came of a decision and puts that into its outbox; whoever holds
the lease publishes it, once, however many clicks say the same. A replica that dies in between
leaves the lease to run out, and another publishes the same bytes under the same outcome_ids, which
the trainer knows again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from server.batching import Batcher, Failed
from server.freshness import FreshnessProbe
from server.publication import records_of
from shared.ports import BrokerUnavailable, CorruptState, EventProducer, StoreUnavailable
from shared.reward_window import (
    Answer,
    Click,
    Clicked,
    Load,
    Resolution,
    RewardWindow,
    learned,
)
from shared.tracing import headers_of

SWEEP_S: Final = 0.1
TAKE: Final = 200
FLUSH_TIMEOUT_S: Final = 5.0
RETRY_S: Final = 0.5
CONFIRM_EVERY_S: Final = 0.05
CONFIRM_TRIES: Final = 20
"""How often, and how many times, a repeated click looks whether another replica has published. One
that takes longer is slow or dead: then the click is published from here as well."""
_BATCH: Final = 200

_log = logging.getLogger(__name__)


@dataclass
class ResolverCounts:
    """What this replica has done. A resolution counts as it leaves the outbox: each once, over all
    replicas, however often it is tried or answered."""

    clicked: int = 0
    """Decisions with a click that were published here …"""
    expired: int = 0
    """… those without …"""
    outcomes: int = 0
    """… and the outcomes of both."""
    refused: dict[str, int] = field(default_factory=dict)
    """Clicks that resolved nothing, by why."""


class _Publication(NamedTuple):
    resolution: Resolution
    resolved_s: float

    @property
    def decision_id(self) -> str:
        return self.resolution.waiting.decision.decision_id


class Resolver:
    """Publishes what is resolved, by clicks that come here or by windows that end anywhere.

    Args:
        window: where decisions wait.
        producer: of this resolver alone; used from one thread.
        freshness: follows the outcomes until they can be served.
        clock: monotonic seconds.
        step: told where it is, so that a test can let it die there.
        resolved: told what was published here, as it is counted, on the event loop.
    """

    def __init__(
        self,
        window: RewardWindow,
        producer: EventProducer,
        freshness: FreshnessProbe,
        clock: Callable[[], float],
        step: Callable[[str], None] = lambda name: None,
        resolved: Callable[[Sequence[Resolution]], None] = lambda resolutions: None,
    ) -> None:
        self.counts = ResolverCounts()
        self.load = Load(0, 0, 0)
        """How much the window held when it was last looked at."""
        self._sweep_error = ""
        self._publish_error = ""
        """Stays until something is published: a sweep that finds nothing to do proves nothing."""
        self._window = window
        self._producer = producer
        self._freshness = freshness
        self._clock = clock
        self._step = step
        self._resolved = resolved
        # librdkafka's flush blocks: on a thread of its own, for everything at once.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._clicks = Batcher(self._click, most=_BATCH, in_flight=2)
        self._publications = Batcher(self._publish, most=_BATCH, in_flight=1)
        self._acknowledging: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, asyncio.Future[None]] = {}
        """By decision_id: what is being published, until the window knows that Kafka has it."""

    @property
    def error(self) -> str:
        """Why publishing does not go on; empty if it does."""
        return self._publish_error or self._sweep_error

    async def click(self, click: Click) -> Clicked:
        """Resolve, and return once Kafka has the outcomes.

        Raises:
            StoreUnavailable: nothing is known; the same click may be sent again.
            BrokerUnavailable: it is decided, but Kafka has not confirmed it; likewise.
        """
        at_s = self._clock()
        clicked = await self._clicks.submit(click)
        if clicked.answer not in (Answer.COUNTED, Answer.AGAIN):
            reason = clicked.answer.value
            self.counts.refused[reason] = self.counts.refused.get(reason, 0) + 1
            return clicked
        resolution = clicked.resolution
        if resolution and not resolution.acknowledged:
            self._step("resolved")
            again = clicked.answer is Answer.AGAIN
            if not (again and await self._confirmed_by_another(click.decision_id)):
                await self._publish_once(_Publication(resolution, at_s))
        return clicked

    async def sweep(self) -> int:
        """End the windows that are due, and publish what nobody holds; returns how many."""
        taken = await self._window.take(TAKE)
        if taken:
            self._step("taken")
            now_s = self._clock()
            await asyncio.gather(*(self._publish_once(_Publication(each, now_s)) for each in taken))
        return len(taken)

    async def run(self) -> None:
        """Sweep until cancelled; whatever fails is tried again."""
        while True:
            try:
                # First: while Kafka is away sweeping fails, and the outbox is what grows then.
                self.load = await self._window.load()
                swept = await self.sweep()
                self._sweep_error = ""
                if swept == TAKE:
                    continue
            except BrokerUnavailable:  # said where it was met
                await asyncio.sleep(RETRY_S)
            except (StoreUnavailable, CorruptState) as error:
                self._complain(str(error))
                await asyncio.sleep(RETRY_S)
            except Exception as error:  # nobody else would notice that windows end no more
                self._complain(f"resolving fails: {error!r}")
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(SWEEP_S)

    async def settle(self) -> None:
        """Wait until what was published is out of the outbox."""
        while self._acknowledging:
            await asyncio.gather(*self._acknowledging)

    async def close(self) -> None:
        """Let go of the broker; what is left is in the outbox."""
        await self.settle()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._producer.close)
        self._thread.shutdown(wait=True)

    async def _click(self, clicks: list[Click]) -> list[Clicked | Failed]:
        return [*(await self._window.click(clicks))]

    async def _confirmed_by_another(self, decision_id: str) -> bool:
        """Whether the replica that this click was first reported to gets it into Kafka in time."""
        for _ in range(CONFIRM_TRIES):
            if decision_id in self._under_way:  # it is this one
                return False
            found = await self._window.find(decision_id)
            if found and found.resolution and found.resolution.acknowledged:
                return True
            await asyncio.sleep(CONFIRM_EVERY_S)
        return False

    async def _publish_once(self, publication: _Publication) -> None:
        """Return once Kafka has it; who comes meanwhile waits for the same."""
        decision_id = publication.decision_id
        under_way = self._under_way.get(decision_id)
        if under_way is None:
            under_way = asyncio.ensure_future(self._publications.submit(publication))
            self._under_way[decision_id] = under_way
            under_way.add_done_callback(lambda done: self._published(decision_id, done))
        await asyncio.shield(under_way)  # one who hangs up does not end it for the others

    def _published(self, decision_id: str, done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is None:
            self._publish_error = ""
            return
        self._under_way.pop(decision_id, None)
        if isinstance(error, BrokerUnavailable) and str(error) != self._publish_error:
            self._publish_error = str(error)
            _log.warning("%s", error)

    async def _publish(self, batch: list[_Publication]) -> list[Failed | None]:
        loop = asyncio.get_running_loop()
        outcomes = await loop.run_in_executor(self._thread, self._send, batch)
        self._step("published")
        # Nobody waits for this: if it fails, the lease runs out and it is published again.
        task = asyncio.ensure_future(self._acknowledge(batch, outcomes))
        self._acknowledging.add(task)
        task.add_done_callback(self._acknowledging.discard)
        return [None] * len(batch)

    def _send(self, batch: Sequence[_Publication]) -> list[int]:
        """Publish these; returns how many outcomes each has."""
        counts = []
        for resolution, resolved_s in batch:
            decision, ranked = resolution.waiting.decision, resolution.waiting.trace

            def delivered(partition: int, offset: int, at_s: float = resolved_s) -> None:
                self._freshness.delivered(partition, offset, at_s)

            outcomes = learned(resolution)
            headers = headers_of(ranked)
            by_click = headers_of(resolution.click_trace or ranked)
            records = records_of(decision, outcomes, delivered, headers, by_click)
            self._producer.send_all(records)
            counts.append(len(outcomes))
        self._step("sent")
        self._producer.flush(FLUSH_TIMEOUT_S)
        return counts

    async def _acknowledge(self, batch: Sequence[_Publication], outcomes: Sequence[int]) -> None:
        """Tell the window that Kafka has these, and count those that it did not know of yet."""
        decision_ids = [each.decision_id for each in batch]
        try:
            left = set(await self._window.acknowledge(decision_ids))
        except StoreUnavailable as error:
            self._complain(f"{error}; {len(batch)} resolutions will be published again")
        else:
            told = zip(decision_ids, batch, outcomes, strict=True)
            new = [(each.resolution, count) for name, each, count in told if name in left]
            clicked = sum(resolution.clicked_rank is not None for resolution, _ in new)
            self.counts.clicked += clicked
            self.counts.expired += len(new) - clicked
            self.counts.outcomes += sum(count for _, count in new)
            self._resolved([resolution for resolution, _ in new])
        finally:
            for decision_id in decision_ids:
                self._under_way.pop(decision_id, None)

    def _complain(self, error: str) -> None:
        if error != self._sweep_error:
            _log.warning("%s", error)
        self._sweep_error = error
