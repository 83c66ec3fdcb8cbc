"""A request becomes a slate whose click will be counted, within a budget, or is turned away."""

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from msgspec import structs

from server.api_types import RankRequest, RankResponse
from server.batching import Batcher, Failed
from server.http_traces import Came, HttpTraces
from server.problems import (
    FAILED,
    NO_WINDOW,
    OVERLOADED,
    RETRY_AFTER_S,
    REUSED,
    UNREADABLE,
    Trouble,
)
from server.ranking import Job, Ranking
from server.withdrawals import Withdrawals
from shared.events import Decision, encode
from shared.ports import StoreUnavailable
from shared.reward_window import Opening, Refused, RewardWindow, Waiting

_BATCH: Final = 64

_log = logging.getLogger(__name__)


class _Asked(NamedTuple):
    request: RankRequest
    at_s: float
    came: Came | None


class RankService:
    """Ranks what is asked at the same moment together, and lets the decisions wait together.

    Args:
        ranking: makes decisions of requests.
        window: where they wait for their clicks.
        answer: what is said of a decision. It is put into words for a batch at once, which costs
            less than for each in between all that a request's answer goes through.
        budget_s: from request to answer; whoever can't be served within it is told so.
        clock: monotonic seconds.
        traces: of the requests that came with one.
        decided: told what the window said to each batch; the loop waits for it.
    """

    def __init__(
        self,
        ranking: Ranking,
        window: RewardWindow,
        answer: Callable[[Decision], RankResponse],
        budget_s: float,
        clock: Callable[[], float],
        traces: HttpTraces | None = None,
        decided: Callable[
            [Sequence[RankRequest], Sequence[Waiting | Refused]], None
        ] = lambda requests, opened: None,
    ) -> None:
        self._ranking = ranking
        self._window = window
        self._answer = answer
        self._budget_s = budget_s
        self._clock = clock
        self._traces = traces or HttpTraces()
        self._decided = decided
        # Two: one batch is scored while the other is on its way to the store.
        self._batches = Batcher(self._work, most=_BATCH, in_flight=2)
        self._withdrawals = Withdrawals(window)
        # Names every batch, apart from those of all other replicas.
        self._replica, self._attempts = secrets.token_hex(12), itertools.count()

    async def rank(self, request: RankRequest, came: Came | None = None) -> bytes:
        """Decide, and return the answer once the decision waits for its click.

        Args:
            request: what is asked for.
            came: the trace that it is part of.

        Raises:
            Trouble: the request can't be ranked, or not in time.
        """
        self._ranking.check(request)
        return await self._batches.submit(_Asked(request, self._clock(), came))

    async def settle(self) -> None:
        """Let what is still to be withdrawn be withdrawn, if the store is there."""
        await self._withdrawals.settle()

    async def _work(self, asked: list[_Asked]) -> Sequence[bytes | Failed]:
        now_s = self._clock()
        left_s = [self._budget_s - (now_s - each.at_s) for each in asked]
        timely = [each for each, left in zip(asked, left_s, strict=True) if left > 0.0]
        answers = iter(await self._decide(timely, max(left_s)) if timely else [])
        return [next(answers) if left > 0.0 else Failed(_too_late()) for left in left_s]

    async def _decide(self, asked: Sequence[_Asked], budget_s: float) -> list[bytes | Failed]:
        if self._withdrawals.full:
            return [Failed(_too_late())] * len(asked)
        attempt = f"{self._replica}.{next(self._attempts)}"
        names, requests = self._window.names(len(asked)), [each.request for each in asked]
        jobs = [Job(r.decision_id or name, r) for r, name in zip(requests, names, strict=True)]
        openings = [
            Opening(self._traced(waiting, each.came) if each.came else waiting, attempt)
            for waiting, each in zip(self._ranking.decide(jobs), asked, strict=True)
        ]
        try:
            async with asyncio.timeout(budget_s):
                opened = await self._window.open(openings)
            self._decided(requests, opened)
            return [
                Failed(_refusal(each))
                if isinstance(each, Refused)
                else encode(self._answer(each.decision))
                for each in opened
            ]
        except BaseException as error:  # whatever it is: nobody is answered with these
            self._withdrawals.add(opening.name for opening in openings)
            return [Failed(_failure(error))] * len(jobs)

    def _traced(self, waiting: Waiting, came: Came) -> Waiting:
        trace = self._traces.ranked(came, waiting.decision.decision_id)
        return structs.replace(waiting, trace=trace)


def _too_late() -> Trouble:
    return Trouble(NO_WINDOW, "the store did not take the decision in time", RETRY_AFTER_S)


def _failure(error: BaseException) -> Trouble:
    """What all of a batch are told that ended with this; what is no failure goes on."""
    if isinstance(error, TimeoutError | StoreUnavailable):
        return _too_late()
    if isinstance(error, Exception):
        _log.error("a batch was not decided", exc_info=error)
        return Trouble(FAILED, "the server's log says more")
    raise error


def _refusal(refused: Refused) -> Trouble:
    if refused is Refused.REUSED:
        return Trouble(REUSED, "this decision_id was given with another request before")
    if refused is Refused.FULL:
        return Trouble(OVERLOADED, "too many decisions wait to be resolved", RETRY_AFTER_S)
    if refused is Refused.UNREADABLE:
        return Trouble(UNREADABLE, "what is kept under this decision_id can't be read")
    return _too_late()
