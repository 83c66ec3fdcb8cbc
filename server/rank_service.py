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
    CLOSED,
    FAILED,
    INVALID,
    NO_WINDOW,
    OVERLOADED,
    RETRY_AFTER_S,
    REUSED,
    UNREADABLE,
    Trouble,
)
from server.ranking import Job, Ranking, Unrankable, fingerprint
from server.withdrawals import Withdrawals
from shared.events import Decision, encode
from shared.ports import CorruptState, StoreUnavailable
from shared.reward_window import Attempt, Opening, Refused, RewardWindow, Waiting

_BATCH: Final = 64

_log = logging.getLogger(__name__)


class _Asked(NamedTuple):
    request: RankRequest
    at_s: float
    came: Came | None
    hung_up: Callable[[], bool]


class RankService:
    """Ranks what is asked at the same moment together, and lets the decisions wait together.

    Args:
        ranking: makes decisions of requests.
        window: where they wait for their clicks.
        answer: what is said of a decision. It is put into words for a batch at once, which costs
            less than for each in between all that a request's answer goes through.
        budget_s: from request to slate; whoever can't be served within it is told so.
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

    async def rank(
        self,
        request: RankRequest,
        came: Came | None = None,
        hung_up: Callable[[], bool] = lambda: False,
    ) -> bytes:
        """Decide, and return the answer once the decision waits for its click.

        Args:
            request: what is asked for.
            came: the trace that it is part of.
            hung_up: whether the client has closed its connection. What it was to be shown then
                comes to nothing.

        Raises:
            Trouble: the request can't be ranked, or not in time.
        """
        if request.candidates is not None and request.exclude is not None:
            raise Trouble(INVALID, "give candidates or exclude, not both")
        asked = _Asked(request, self._clock(), came, hung_up)
        try:
            return await self._batches.submit(asked)
        except Unrankable as refusal:
            if request.decision_id is None:
                raise
            answer = await self._decided_before(asked, request.decision_id, refusal)
        if isinstance(answer, Failed):
            raise answer.error
        return answer

    async def settle(self) -> None:
        """Let what is still to be withdrawn be withdrawn, if the store is there."""
        await self._withdrawals.settle()

    async def _work(self, asked: list[_Asked]) -> Sequence[bytes | Failed]:
        now_s = self._clock()
        over = [self._over(each, now_s) for each in asked]
        timely = [each for each, failed in zip(asked, over, strict=True) if failed is None]
        answers = iter(await self._decide(timely) if timely else [])
        return [next(answers) if failed is None else failed for failed in over]

    async def _decide(self, asked: Sequence[_Asked]) -> list[bytes | Failed]:
        requests = [each.request for each in asked]
        names = self._window.names(len(asked))
        jobs = [Job(r.decision_id or name, r) for r, name in zip(requests, names, strict=True)]
        decided = self._ranked(jobs)
        opening = [
            (each, waiting)
            for each, waiting in zip(asked, decided, strict=True)
            if isinstance(waiting, Waiting)
        ]
        answers = iter(await self._open(opening) if opening else [])
        return [next(answers) if isinstance(d, Waiting) else Failed(d) for d in decided]

    def _ranked(self, jobs: Sequence[Job]) -> Sequence[Waiting | Trouble]:
        """What is decided; an error that nobody thought of harms only the job that met it."""
        try:
            return self._ranking.decide(jobs)
        except Exception as error:
            if len(jobs) > 1:
                half = len(jobs) // 2
                return [*self._ranked(jobs[:half]), *self._ranked(jobs[half:])]
            _log.error("a request was not ranked", exc_info=error)
            return [_fault()]

    async def _decided_before(
        self, asked: _Asked, decision_id: str, refusal: Unrankable
    ) -> bytes | Failed:
        """The answer to a retry of what can be ranked no more: it was shown, and may be clicked."""
        try:
            async with asyncio.timeout(self._left_s(asked.at_s)):
                found = await self._window.find(decision_id)
        except CorruptState as error:
            _log.error("decision %s: %s", decision_id, error)
            return Failed(_refusal(Refused.UNREADABLE))
        except Exception as error:
            return Failed(_failure(error))
        if found is None:
            return Failed(refusal)
        if found.waiting.request != fingerprint(asked.request):
            return Failed(_refusal(Refused.REUSED))
        # Opened once more: so it stays while this attempt stays, though the first be withdrawn.
        [answer] = await self._open([(asked, found.waiting)], before=True)
        return answer

    async def _open(
        self, decided: Sequence[tuple[_Asked, Waiting]], before: bool = False
    ) -> list[bytes | Failed]:
        """Let them wait, and answer. Those that were decided before are not counted again."""
        if self._withdrawals.full:
            return [Failed(_too_late())] * len(decided)
        attempt = f"{self._replica}.{next(self._attempts)}"
        openings = [
            Opening(self._traced(waiting, each.came) if each.came else waiting, attempt)
            for each, waiting in decided
        ]
        try:
            async with asyncio.timeout(self._left_s(max(each.at_s for each, _ in decided))):
                opened = await self._window.open(openings)
            self._decided([each.request for each, _ in decided], opened)
            now_s = self._clock()
            over = [self._over(each, now_s) for each, _ in decided]
            answers = [failed or self._said(one) for failed, one in zip(over, opened, strict=True)]
        except BaseException as error:  # whatever it is: nobody is answered with these
            self._withdrawals.add(opening.name for opening in openings)
            return [Failed(_failure(error))] * len(openings)
        if any(over):
            self._withdrawals.add(_unseen(openings, over, opened))
        if not before:
            self._ranking.counts.decisions += _new(openings, opened, answers)
        return answers

    def _said(self, opened: Waiting | Refused) -> bytes | Failed:
        if isinstance(opened, Refused):
            return Failed(_refusal(opened))
        return encode(self._answer(opened.decision))

    def _left_s(self, at_s: float) -> float:
        return at_s + self._budget_s - self._clock()

    def _over(self, asked: _Asked, now_s: float) -> Failed | None:
        """Why a slate would come too late for whoever asked; None if it would not."""
        if asked.hung_up():
            return Failed(Trouble(CLOSED, "what was decided meanwhile is withdrawn"))
        return Failed(_too_late()) if now_s - asked.at_s >= self._budget_s else None

    def _traced(self, waiting: Waiting, came: Came) -> Waiting:
        trace = self._traces.ranked(came, waiting.decision.decision_id)
        return structs.replace(waiting, trace=trace)


def _unseen(
    openings: Sequence[Opening],
    over: Sequence[Failed | None],
    opened: Sequence[Waiting | Refused],
) -> set[Attempt]:
    """What nobody is answered with: not even who asked the same in the same batch."""
    seen = {opening.name for opening, failed in zip(openings, over, strict=True) if not failed}
    waiting = {o.name for o, one in zip(openings, opened, strict=True) if isinstance(one, Waiting)}
    return waiting - seen


def _new(
    openings: Sequence[Opening],
    opened: Sequence[Waiting | Refused],
    answers: Sequence[bytes | Failed],
) -> int:
    """How many decisions began to wait with these, and were seen by somebody."""
    pairs = zip(openings, opened, strict=True)
    began = {opening.name for opening, one in pairs if one is opening.waiting}
    seen = {o.name for o, a in zip(openings, answers, strict=True) if isinstance(a, bytes)}
    return len(began & seen)


def _too_late() -> Trouble:
    return Trouble(NO_WINDOW, "the store did not take the decision in time", RETRY_AFTER_S)


def _fault() -> Trouble:
    return Trouble(FAILED, "the server's log says more")


def _failure(error: BaseException) -> Trouble:
    """What all of a batch are told that ended with this; what is no failure goes on."""
    if isinstance(error, TimeoutError | StoreUnavailable):
        return _too_late()
    if isinstance(error, Exception):
        _log.error("a batch was not decided", exc_info=error)
        return _fault()
    raise error


def _refusal(refused: Refused) -> Trouble:
    if refused is Refused.REUSED:
        return Trouble(REUSED, "this decision_id was given with another request before")
    if refused is Refused.FULL:
        return Trouble(OVERLOADED, "too many decisions wait to be resolved", RETRY_AFTER_S)
    if refused is Refused.UNREADABLE:
        return Trouble(UNREADABLE, "what is kept under this decision_id can't be read")
    return _too_late()
