"""Micro-batches: what is asked for at the same moment is done together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Failed(NamedTuple):
    """In the place of a result: what is raised to whoever submitted the item."""

    error: BaseException


class Batcher(Generic[T, R]):
    """Gathers what arrives while an earlier batch is under way; no timer, so no added delay.

    A small batch takes nearly as long as a large one. So one is under way at a time, and another
    only if it is full. When a batch ends, at most half of all items around (those waiting and those
    just answered) leave together: while they are worked on, the answers of the other half are
    written, and the two halves stay of a size.

    Args:
        work: does a batch; one result (or `Failed`) for each item, in order. What it raises is
            raised to all that submitted an item of the batch.
        most: size of a batch at most.
        in_flight: batches under way at once at most.
    """

    def __init__(
        self,
        work: Callable[[list[T]], Awaitable[Sequence[R | Failed]]],
        *,
        most: int,
        in_flight: int,
    ) -> None:
        self._work = work
        self._most = most
        self._in_flight = in_flight
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: set[asyncio.Task[None] | None] = set()  # referenced, or they may be lost
        self._scheduled = False

    async def submit(self, item: T) -> R:
        """Have it done, with whatever else is asked for."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if not self._scheduled and self._may_leave():
            # On the loop's next turn: everything that arrived in this one goes together.
            self._scheduled = True
            loop.call_soon(self._launch)
        return await future

    def _may_leave(self) -> bool:
        waiting, running = len(self._waiting), len(self._running)
        return waiting > 0 and (
            running == 0 or (running < self._in_flight and waiting >= self._most)
        )

    def _launch(self, answered: int = 0) -> None:
        self._scheduled = False
        while self._may_leave():
            around = len(self._waiting) + answered
            share = -(-around // 2) if answered else around
            size = min(self._most, len(self._waiting), share)
            batch = [self._waiting.popleft() for _ in range(size)]
            # Whoever waits no longer need not be served: a click past its budget, say.
            batch = [(item, future) for item, future in batch if not future.done()]
            if batch:
                self._running.add(asyncio.ensure_future(self._do(batch)))

    async def _do(self, batch: list[tuple[T, "asyncio.Future[R]"]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
        except BaseException as error:  # whatever ends it: nobody may wait for ever
            results = [Failed(error)] * len(batch)
        self._running.discard(asyncio.current_task())
        # Before the answers: while these are written, the next batch is worked on.
        self._launch(answered=len(batch))
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Failed):
                future.set_exception(result.error)
            else:
                future.set_result(result)
