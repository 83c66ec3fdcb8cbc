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
from server.problems import INVALID, NOT_READY, RETRY_AFTER_S, Trouble
from server.restriction import allowed, part
from server.scorer import Model, rank, seeds_of
from server.sources import Source, sources_of
from server.view import View, Viewing
from shared.arm_statistics import Floats
from shared.events import SlateItem
from shared.features import Encoder
from shared.live_catalogue import LiveCatalogue
from shared.reward_window import Waiting


class Job(NamedTuple):
    """A request that is to be ranked under this name."""

    decision_id: str
    request: RankRequest


class Unrankable(Trouble):
    """The model has nothing of what a request asks to rank, or not all."""


class RankCounts(msgspec.Struct):
    """What has been met on the way from requests to decisions."""

    decisions: int = 0
    """Those that were kept and answered with, each once; who keeps them counts them."""
    unknown_categories: int = 0
    clipped: int = 0


class Ranking(Protocol):
    """What makes decisions of requests."""

    counts: RankCounts

    def decide(self, jobs: Sequence[Job]) -> list[Waiting | Unrankable]:
        """A decision for each of at least one, or why there is none."""


class Ranker:
    """`Ranking` on the view of the model.

    Args:
        view: gives a consistent model.
        traffic: whom to rank by which policy. A request without a user, or with 0, counts as one.
        encoder: contexts to x.
        depth: ranks that a shopper looks at who does not click; None for all.
        utc_now: for `decided_at`.
        observe_s: told how long each batch took to rank.
        clock: for that.
        catalogue: what is to be ranked, where a model may be behind it.
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
        catalogue: LiveCatalogue | None = None,
    ) -> None:
        self.counts = RankCounts()
        self._view = view
        self._traffic = traffic
        self._encoder = encoder
        self._depth = depth
        self._utc_now = utc_now
        self._clock = clock
        self._observe_s = observe_s
        self._catalogue = catalogue or LiveCatalogue(())

    def decide(self, jobs: Sequence[Job]) -> list[Waiting | Unrankable]:
        """See `Ranking.decide`."""
        started_s = self._clock()
        encoded = self._encoder.encode([job.request.context for job in jobs])
        with self._view.locked() as view:
            variants = self._variants(jobs)
            slates = self._slates(view, encoded.X, jobs, variants)
            sources = sources_of(self._traffic, view)
        decided_at = self._utc_now()
        decided = [
            slate
            if isinstance(slate, Unrankable)
            else self._waiting(job, x, slate, decided_at, sources[variant.name])
            for job, x, slate, variant in zip(
                jobs, encoded.X.tolist(), slates, variants, strict=True
            )
        ]
        self.counts.unknown_categories += encoded.unknown_categories
        self.counts.clipped += encoded.clipped
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
    ) -> list[list[SlateItem] | Unrankable]:
        """Rank together what ranks the same products to the same length by the same policy."""
        seeds = seeds_of([job.decision_id for job in jobs])

        def ranked(first: int, rows: slice | list[int]) -> list[list[SlateItem] | Unrankable]:
            request, policy = jobs[first].request, variants[first].policy
            try:
                model = self._ranked(view.of(policy).model, request)
            except Unrankable as refusal:
                return [refusal] * len(seeds[rows])
            return [*rank(policy, model, X[rows], seeds[rows], request.k)]

        kinds = [
            (request.k, None if request.whole else i, variant.name)
            for i, ((_, request), variant) in enumerate(zip(jobs, variants, strict=True))
        ]
        if len(set(kinds)) == 1:
            return ranked(0, slice(None))
        groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
        for i, kind in enumerate(kinds):
            groups[kind].append(i)
        slates: list[list[SlateItem] | Unrankable] = [[]] * len(jobs)
        for places in groups.values():
            for i, slate in zip(places, ranked(places[0], places), strict=True):
                slates[i] = slate
        return slates

    def _ranked(self, model: Model, request: RankRequest) -> Model:
        """The part of the model that a request asks about."""
        candidates, exclude = request.candidates, request.exclude
        rows = allowed(model.arms, candidates, exclude)
        count = len(model.arms if rows is None else rows)
        if candidates is not None and count < len(set(candidates)):
            raise self._missing(set(candidates) - set(model.arms.tolist()))
        if exclude and not count:
            raise Unrankable(INVALID, "exclude leaves no product to rank")
        if not count:
            raise Unrankable(NOT_READY, "there is no product to rank", RETRY_AFTER_S)
        return part(model, rows)

    def _missing(self, arms: set[int]) -> Unrankable:
        """What to say of candidates that the model lacks."""
        entries = {arm: self._catalogue.entry(arm) for arm in arms}
        unknown = [arm for arm, entry in entries.items() if entry is None or entry.retired]
        if unknown:
            why = f"candidates: no product {min(unknown)}, or it is retired"
            return Unrankable(INVALID, why)
        why = f"candidates: product {min(arms)} is new and not in the model yet"
        return Unrankable(NOT_READY, why, RETRY_AFTER_S)


def _user_id(job: Job) -> int:
    if job.request.user_id:  # 0 stands for nobody in the log
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
