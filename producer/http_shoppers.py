"""Simulated shoppers at the API: they ask, think, click or leave; turned away they ask again."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, NamedTuple, TypeVar

import httpx
import msgspec

from producer.habits import Habits, thinking_s
from producer.service import Stop
from producer.simulate import Shoppers
from shared.events import Visit
from shared.tracing import Headers, Trace, untraced

_T = TypeVar("_T")

React = Callable[[Visit, Sequence[int]], int | None]
"""What the shopper does with the slate: the clicked rank from 1 on, or None."""

TICK_S: Final = 0.01
_CONNECTIONS: Final = 64
_RETRY_S: Final = 0.1


class GivenUp(Exception):
    """No server answered for too long; the message says which, and what it said last."""


@dataclass
class Counts:
    """What the shoppers have met."""

    sent: int = 0
    confirmed: int = 0
    """Visits that are over: their shoppers have clicked, too late perhaps, or left."""
    clicks: int = 0
    late: int = 0
    """Clicks that came after the window's end."""
    forgotten: int = 0
    """Clicks on decisions that the servers know no more."""
    retries: int = 0


class Shopped(NamedTuple):
    """One visit, from the shopper's side."""

    visit: Visit
    slate: list[int]
    clicked: int | None
    """product_id of a click that counted"""


class HttpShoppers:
    """Sends visits to an API at a steady rate, each shopper at its own pace from then on.

    The decision_id is the visit_id, so every request may be sent again, to any server.

    Args:
        client: reaches the API.
        urls: addresses of the servers, asked in turn.
        shoppers: who visits.
        react: whether they click.
        habits: and when.
        seed: of the thinking times.
        rate: visits a second; 0 for as many as the servers take.
        patience_s: how long to ask again before giving up.
        clock: monotonic seconds.
        utc_now: for `emitted_at`.
        done: told of every visit that is over.
        trace: how a visit starts a trace, which its requests name.
        counts: where to count; counts of its own by default.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        urls: Sequence[str],
        shoppers: Shoppers,
        react: React,
        habits: Habits,
        seed: int,
        rate: float,
        patience_s: float,
        *,
        clock: Callable[[], float],
        utc_now: Callable[[], datetime],
        done: Callable[[Shopped], None] = lambda shopped: None,
        trace: Trace = untraced,
        counts: Counts | None = None,
    ) -> None:
        self.counts = counts or Counts()
        self._client = client
        self._urls = itertools.cycle(url.rstrip("/") for url in urls)
        self._shoppers = shoppers
        self._react = react
        self._habits = habits
        self._seed = seed
        self._rate = rate
        self._patience_s = patience_s
        self._clock = clock
        self._utc_now = utc_now
        self._done = done
        self._trace = trace
        self._asking = asyncio.Semaphore(_CONNECTIONS)
        self._unranked = 0

    async def run(self, indices: Iterable[int], stop: Stop) -> None:
        """Send visits until they end or `stop` is set; those who are here finish.

        Raises:
            GivenUp: nobody answers.
        """
        waiting = iter(indices)
        started_s, exhausted = self._clock(), False
        async with asyncio.TaskGroup() as visits:
            while not exhausted and not stop.is_set():
                for _ in range(self._due(self._clock() - started_s)):
                    index = next(waiting, None)
                    if index is None:
                        exhausted = True
                        break
                    self.counts.sent += 1
                    self._unranked += 1
                    visits.create_task(self._visit(index))
                await asyncio.sleep(TICK_S if self._rate else 0.0)

    def _due(self, elapsed_s: float) -> int:
        # Servers that can't keep up slow the arrivals down, not the clicks of who is here.
        free = max(_CONNECTIONS - self._unranked, 0)
        if not self._rate:
            return free
        return min(free, int(elapsed_s * self._rate) + 1 - self.counts.sent)

    async def _visit(self, index: int) -> None:
        visit = self._shoppers.visit(index, self._utc_now())
        emitted_ms = int(visit.emitted_at.timestamp() * 1e3)
        headers = self._trace((), emitted_ms, {"visit_id": visit.visit_id})
        request = {
            "context": visit.context,
            "user_id": visit.user_id,
            "decision_id": visit.visit_id,
        }
        answer = await self._post("/v1/rank", request, headers)
        self._unranked -= 1
        if answer.status_code != 200:
            raise _refused("ranking a visit", answer)
        slate = [item.product_id for item in _read(answer, _Ranked).slate]
        rank = self._react(visit, slate)
        clicked = await self._click(visit, slate[rank - 1], headers) if rank else None
        self.counts.confirmed += 1
        self._done(Shopped(visit, slate, clicked))

    async def _click(self, visit: Visit, product_id: int, headers: Headers) -> int | None:
        await asyncio.sleep(thinking_s(self._habits, self._seed, visit.visit_id))
        path = f"/v1/decisions/{visit.visit_id}/click"
        answer = await self._post(path, {"product_id": product_id}, headers)
        _read(answer, _Said)
        if answer.status_code == 410:
            self.counts.late += 1
            return None
        if answer.status_code == 404:  # the store lost its last second, or made room for others
            self.counts.forgotten += 1
            return None
        if answer.status_code != 200:
            raise _refused("a click", answer)
        self.counts.clicks += 1
        return product_id

    async def _post(self, path: str, body: object, trace: Headers) -> httpx.Response:
        """The first answer other than "try again" (503)."""
        content = msgspec.json.encode(body)
        headers = {"content-type": "application/json"}
        headers |= {name: value.decode() for name, value in trace}
        give_up_s = self._clock() + self._patience_s
        while True:
            url = next(self._urls)
            try:
                async with self._asking:
                    answer = await self._client.post(url + path, content=content, headers=headers)
                if answer.status_code == 401:
                    raise GivenUp(f"{url} wants another API key: give it with --api-key-file FILE")
                said = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code != 503:
                    return answer
            except httpx.TransportError as error:
                said = str(error) or type(error).__name__
            if self._clock() >= give_up_s:
                raise GivenUp(
                    f"{url} does not serve: {said} (tried for {self._patience_s:g} s); start one "
                    "with `reco serve --http`, or give --via its address"
                )
            self.counts.retries += 1
            await asyncio.sleep(_RETRY_S)


class _Shown(msgspec.Struct):
    product_id: int


class _Ranked(msgspec.Struct):
    """What is read of a slate."""

    slate: Annotated[list[_Shown], msgspec.Meta(min_length=1)]


class _Said(msgspec.Struct):
    """What is read of any other answer: each is an object."""

    detail: str | None = None


def _refused(what: str, answer: httpx.Response) -> GivenUp:
    return GivenUp(f"{what} was refused with {answer.status_code}: {_read(answer, _Said).detail}")


def _read(answer: httpx.Response, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        raise GivenUp(f"{answer.url} answers something that is not this API") from error
