"""What is asked for at the same moment is done together."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from server.batching import Batcher, Failed


class Worker:
    """Does batches when it is let; remembers them."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self._doors: list[asyncio.Future[None]] = []

    async def __call__(self, batch: list[int]) -> Sequence[int | Failed]:
        """The work: ten times the number; what is negative fails."""
        self.batches.append(batch)
        door = asyncio.get_running_loop().create_future()
        self._doors.append(door)
        await door
        return [Failed(ValueError(str(item))) if item < 0 else 10 * item for item in batch]

    async def finish(self, batch: int) -> None:
        """Let this one end, and everything happen that follows."""
        self._doors[batch].set_result(None)
        await settled()

    @property
    def sizes(self) -> list[int]:
        """How many were done together."""
        return [len(batch) for batch in self.batches]


async def settled() -> None:
    """Turns of the loop until nothing is left to do in it but what is waited for."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(
    story: Callable[[Worker, Callable[[int], "asyncio.Task[int]"]], Coroutine[Any, Any, None]],
    most: int = 8,
    in_flight: int = 2,
) -> None:
    """A story of a worker and of who asks."""

    async def told() -> None:
        worker = Worker()
        batcher = Batcher(worker, most=most, in_flight=in_flight)
        await story(worker, lambda item: asyncio.ensure_future(batcher.submit(item)))

    asyncio.run(told())


def test_what_is_asked_for_at_the_same_moment_is_done_together_and_in_order() -> None:
    async def story(worker: Worker, ask: Callable[[int], "asyncio.Task[int]"]) -> None:
        asked = [ask(item) for item in range(5)]
        await settled()
        assert worker.batches == [[0, 1, 2, 3, 4]]
        await worker.finish(0)
        assert await asyncio.gather(*asked) == [0, 10, 20, 30, 40]

    run(story)


def test_what_comes_meanwhile_goes_with_the_next() -> None:
    async def story(worker: Worker, ask: Callable[[int], "asyncio.Task[int]"]) -> None:
        ask(1)
        await settled()
        later = [ask(2), ask(3)]
        await settled()
        assert worker.batches == [[1]]
        await worker.finish(0)
        assert 2 in worker.batches[1]
        while not all(each.done() for each in later):
            await worker.finish(len(worker.batches) - 1)
        assert [await each for each in later] == [20, 30]

    run(story)


def test_a_further_batch_leaves_at_once_only_if_it_is_full() -> None:
    async def story(worker: Worker, ask: Callable[[int], "asyncio.Task[int]"]) -> None:
        ask(0)
        await settled()
        for item in range(7):
            ask(item)
        await settled()
        assert worker.sizes == [1]
        ask(7)
        await settled()
        assert worker.sizes == [1, 8]
        for item in range(20):
            ask(item)
        await settled()
        assert worker.sizes == [1, 8], "no third one beside two"

    run(story)


def test_two_groups_of_clients_grow_equal_and_neither_waits_for_the_other() -> None:
    async def story(worker: Worker, ask: Callable[[int], "asyncio.Task[int]"]) -> None:
        async def client(item: int) -> None:
            for _ in range(6):
                await ask(item)

        clients = [asyncio.ensure_future(client(0))]
        await settled()
        clients += [asyncio.ensure_future(client(item)) for item in range(1, 32)]
        await settled()
        assert worker.sizes == [1]
        done = 0
        while not all(each.done() for each in clients):
            await worker.finish(done)
            done += 1
        assert worker.sizes[:8] == [1, 16, 16, 16, 16, 16, 16, 16]

    run(story, most=64)


def test_the_next_batch_leaves_before_the_answers_of_the_last_are_given() -> None:
    async def story(worker: Worker, ask: Callable[[int], "asyncio.Task[int]"]) -> None:
        under_way: list[int] = []
        first = ask(1)
        first.add_done_callback(lambda _: under_way.append(len(worker.batches)))
        await settled()
        ask(2)
        await settled()
        await worker.finish(0)
        assert under_way == [2]

    run(story)


def test_whoever_has_hung_up_is_not_served() -> None:
    async def story(worker: Worker, ask: Callable[[int], "asyncio.Task[int]"]) -> None:
        ask(1)
        await settled()
        gone = ask(2)
        await settled()
        gone.cancel()
        await worker.finish(0)
        assert worker.batches == [[1]]
        stays = ask(3)
        await settled()
        await worker.finish(1)
        assert await stays == 30

    run(story)


def test_one_that_fails_alone_fails_only_for_who_asked_it() -> None:
    async def story(worker: Worker, ask: Callable[[int], "asyncio.Task[int]"]) -> None:
        wrong, right = ask(-1), ask(1)
        await settled()
        await worker.finish(0)
        with pytest.raises(ValueError, match="-1"):
            await wrong
        assert await right == 10

    run(story)


def test_a_batch_that_fails_as_a_whole_fails_for_everybody_and_the_next_is_done() -> None:
    async def told() -> None:
        failures = [RuntimeError("down")]

        async def work(batch: list[int]) -> list[int | Failed]:
            if failures:
                raise failures.pop()
            return [*batch]

        batcher = Batcher(work, most=8, in_flight=2)
        answers = await asyncio.gather(
            *(batcher.submit(item) for item in (1, 2)), return_exceptions=True
        )
        assert [str(answer) for answer in answers] == ["down", "down"]
        assert await batcher.submit(3) == 3

    asyncio.run(told())
