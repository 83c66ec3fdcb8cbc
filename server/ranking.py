"""Requests to decisions, many at a time: encode, score on one view, rank. No I/O."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple, Protocol

import msgspec
from msgspec import structs

from server.api_types import RankRequest
from server.experiment import Traffic, Variant
from server.problems import INVALID, Trouble
from server.restriction import allowed, part
from server.scorer import rank, seeds_of
from server.sources import Source, sources_of
from server.view import View, Viewing
from shared.arm_statistics import Floats
from shared.events import SlateItem
from shared.features import Encoder
from shared.reward_window import Waiting


class Job(NamedTuple):
    """A request that is to be ranked under this name."""

    decision_id: str
    request: RankRequest


class RankCounts(msgspec.Struct):
    """What the ranking has met."""

    decisions: int = 0
    unknown_categories: int = 0
    clipped: int = 0


class Ranking(Protocol):
    """What makes decisions of requests."""

    counts: RankCounts

    def check(self, request: RankRequest) -> None:
        """Refuse what can't be ranked.

        Raises:
            Trouble: says why.
        """

    def decide(self, jobs: Sequence[Job]) -> list[Waiting]:
        """One decision for each, at least one."""


class Ranker:
    """`Ranking` on the view of the model.

    Args:
        view: gives a consistent model.
        traffic: whom to rank by which policy. A request without a user counts as one.
        encoder: contexts to x.
        depth: ranks that a shopper looks at who does not click; None for all.
        utc_now: for `decided_at`.
        observe_s: told how long each batch took to rank.
        clock: for that.
    """

    def __init__(
        self,
        view: Viewing,
        traffic: Traffic,
        encoder: Encoder,
        depth: int | None,
        *,
        utc_now: Callable[[], datetime],
        clock: Callable[[], float],
        observe_s: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.counts = RankCounts()
        self._view = view
        self._traffic = traffic
        self._encoder = encoder
        self._depth = depth
        self._utc_now = utc_now
        self._clock = clock
        self._observe_s = observe_s

    def check(self, request: RankRequest) -> None:
        """See `Ranking.check`."""
        if request.whole:
            return
        if request.candidates is not None and request.exclude is not None:
            raise Trouble(INVALID, "give candidates or exclude, not both")
        with self._view.locked() as view:
            known = set(view.model.arms.tolist())
        named = set(request.candidates or request.exclude or ())
        if request.candidates is not None and not named <= known:
            raise Trouble(INVALID, f"candidates: no product {min(named - known)}, or it is retired")
        if request.exclude is not None and known <= named:
            raise Trouble(INVALID, "exclude leaves no product to rank")

    def decide(self, jobs: Sequence[Job]) -> list[Waiting]:
        """See `Ranking.decide`."""
        started_s = self._clock()
        encoded = self._encoder.encode([job.request.context for job in jobs])
        self.counts.decisions += len(jobs)
        self.counts.unknown_categories += encoded.unknown_categories
        self.counts.clipped += encoded.clipped
        with self._view.locked() as view:
            variants = self._variants(jobs)
            slates = self._slates(view, encoded.X, jobs, variants)
            sources = sources_of(self._traffic, view)
        decided_at = self._utc_now()
        decided = [
            self._waiting(job, x, slate, decided_at, sources[variant.name])
            for job, x, slate, variant in zip(
                jobs, encoded.X.tolist(), slates, variants, strict=True
            )
        ]
        self._observe_s(self._clock() - started_s)
        return decided

    def _waiting(
        self,
        job: Job,
        x: list[float],
        slate: list[SlateItem],
        decided_at: datetime,
        source: Source,
    ) -> Waiting:
        decision = source.decision(
            decision_id=job.decision_id,
            visit_id=job.decision_id,
            user_id=job.request.user_id or 0,
            x=x,
            encoder_id=self._encoder.id,
            slate=slate,
            decided_at=decided_at,
            via="http",
        )
        request = job.request
        if not request.whole:
            asked = {"candidates": request.candidates, "exclude": request.exclude}
            decision = structs.replace(decision, **asked)
        return Waiting(decision, fingerprint(request), min(self._depth or len(slate), len(slate)))

    def _variants(self, jobs: Sequence[Job]) -> list[Variant]:
        if len(self._traffic.variants) == 1:
            return [*self._traffic.variants] * len(jobs)
        return [self._traffic.variant_of(_user_id(job)) for job in jobs]

    def _slates(
        self, view: View, X: Floats, jobs: Sequence[Job], variants: Sequence[Variant]
    ) -> list[list[SlateItem]]:
        """Rank together what ranks the same products to the same length by the same policy."""
        seeds = seeds_of([job.decision_id for job in jobs])

        def ranked(first: int, rows: slice | list[int]) -> list[list[SlateItem]]:
            request, policy = jobs[first].request, variants[first].policy
            model = view.of(policy).model
            model = part(model, allowed(model.arms, request.candidates, request.exclude))
            return rank(policy, model, X[rows], seeds[rows], request.k)

        kinds = [
            (request.k, None if request.whole else i, variant.name)
            for i, ((_, request), variant) in enumerate(zip(jobs, variants, strict=True))
        ]
        if len(set(kinds)) == 1:
            return ranked(0, slice(None))
        groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for i, kind in enumerate(kinds):
            groups[kind].append(i)
        slates: list[list[SlateItem]] = [[]] * len(jobs)
        for places in groups.values():
            for i, slate in zip(places, ranked(places[0], places), strict=True):
                slates[i] = slate
        return slates


def _user_id(job: Job) -> int:
    if job.request.user_id is not None:
        return job.request.user_id
    return int(seeds_of([job.decision_id])[0])  # nobody to be true to: its own hash decides


def fingerprint(request: RankRequest) -> str:
    """Tells one request from another under the same decision_id.

    Empty where the id is ours: whoever comes with that id asks for something else.
    """
    if request.decision_id is None:
        return ""
    if request.exclude == []:
        request = structs.replace(request, exclude=None)  # says the same
    return blake2b(_encode(request), digest_size=12).hexdigest()


_encode = msgspec.json.Encoder().encode
