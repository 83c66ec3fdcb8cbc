"""What a run came to: click rates beside random and best slates, and a verdict. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from reco.rebuild import Report
from reco.uplift import uplift_share
from shared.arm_statistics import Floats
from shared.events import Context, Decision, Outcome
from shared.ground_truth import (
    ROUNDING,
    GroundTruth,
    best_click_probability,
    random_click_probability,
    slate_click_probability,
)

JUDGED_FROM: Final = 200
"""Visits from which on having learned is asked for: before that it may be luck either way."""

LATE_BEYOND: Final = 0.1
"""Share of the clicks that may be late beyond what was asked for: a busy machine delays some."""


class Freshness(msgspec.Struct):
    """Milliseconds from a click until its effect can be served; None without a sample."""

    p50: float | None
    p99: float | None


class Replay(msgspec.Struct):
    """The part of the replay's report that the verdict rests on."""

    outcomes: int
    arms: int
    differing_bits: int


class Late(msgspec.Struct):
    """Clicks that came after their window's end, over HTTP."""

    late: int
    clicks: int
    """All that were sent."""
    asked: float
    """Share of the clicks that was to be late."""

    @property
    def share(self) -> float:
        """Of all clicks."""
        return self.late / self.clicks if self.clicks else 0.0


class Verdict(msgspec.Struct):
    """The demo's result, as its JSON says it."""

    visits: int
    """Visits that were decided."""
    outcomes: int
    """Outcomes of these visits (history not counted)."""
    click_rate: float
    """Share of the visits that clicked."""
    click_rate_random: float
    """What random slates would have got on these visits, by the hidden model."""
    click_rate_best: float
    """What the best possible slates would have got."""
    uplift_captured: float
    """(click rate - random) / (best - random)"""
    click_rate_expected: float
    """Click probability of the slates shown, by the hidden model: without the dice."""
    uplift_captured_expected: float
    freshness_ms: Freshness
    kills: int
    replay: Replay
    broker: str
    store: str
    decided_twice: int
    """Visits decided again after a kill (delivery is at least once)."""
    reasons: list[str]
    """Why the verdict is fail; empty if it is pass."""
    verdict: str
    late: Late | None = None
    """None in stream mode, and where whoever counted them was killed."""


class Expected(msgspec.Struct):
    """What the hidden model says of the visits: N each, and N × K."""

    probabilities: Floats
    random: Floats
    best: Floats


def expected(truth: GroundTruth, contexts: Sequence[Context], k: int) -> Expected:
    """Ask the hidden model about these visits."""
    P = truth.click_probabilities(contexts)
    return Expected(P, random_click_probability(P, k), best_click_probability(P, k))


def judge(
    visit_ids: Sequence[str],
    hidden: Expected,
    column: Mapping[int, int],
    decisions: Iterable[Decision],
    outcomes: Iterable[Outcome],
    replay: Report,
    *,
    freshness_ms: Sequence[float],
    kills: int,
    broker: str,
    store: str,
    late: Late | None = None,
) -> Verdict:
    """Put a run's topics together and judge it.

    Args:
        visit_ids: the N visits that were sent.
        hidden: what the hidden model says of them, in the same order.
        column: product_id → column of `hidden.probabilities`.
        decisions: what was decided; the first decision of a visit counts.
        outcomes: what was published.
        replay: the comparison of store and log.
        freshness_ms: samples.
        kills: how many processes were killed.
        broker: what it ran on.
        store: likewise.
        late: clicks that came too late, where that is known.
    """
    first: dict[str, Decision] = {}
    twice = 0
    for decision in decisions:
        twice += decision.visit_id in first
        first.setdefault(decision.visit_id, decision)
    ids = {decision.decision_id for decision in first.values()}
    seen = {outcome.outcome_id: outcome for outcome in outcomes if outcome.decision_id in ids}
    clicked = {outcome.decision_id for outcome in seen.values() if outcome.reward > 0}
    row = {visit_id: i for i, visit_id in enumerate(visit_ids)}
    rows = [row[visit_id] for visit_id in first if visit_id in row]
    shown = [
        slate_click_probability(
            hidden.probabilities[row[visit_id], [column[item.product_id] for item in d.slate]]
        )
        for visit_id, d in first.items()
        if visit_id in row
    ]
    rate, mean_shown = _mean([decision_id in clicked for decision_id in ids]), _mean(shown)
    random, best = _mean(hidden.random[rows]), _mean(hidden.best[rows])
    result = Verdict(
        visits=len(rows),
        outcomes=len(seen),
        click_rate=rate,
        click_rate_random=random,
        click_rate_best=best,
        uplift_captured=uplift_share(rate, random, best),
        click_rate_expected=mean_shown,
        uplift_captured_expected=uplift_share(mean_shown, random, best),
        freshness_ms=_freshness(freshness_ms),
        kills=kills,
        replay=Replay(replay.outcomes, replay.arms, replay.differing_bits),
        broker=broker,
        store=store,
        decided_twice=twice,
        reasons=[],
        verdict="",
        late=late,
    )
    result.reasons = list(_reasons(result, len(visit_ids), replay))
    result.verdict = "fail" if result.reasons else "pass"
    return result


def _reasons(result: Verdict, sent: int, replay: Report) -> Iterable[str]:
    if result.visits != sent:
        yield f"{sent - result.visits} of {sent} visits were not decided"
    if replay.differing_bits:
        yield f"{replay.differing_bits} bits of the state differ from a replay of the log"
    yield from replay.violations
    if replay.lag:
        yield f"{replay.lag} outcomes were not learned from"
    late = result.late
    if result.visits >= JUDGED_FROM and late and late.share > late.asked + LATE_BEYOND:
        yield (
            f"{late.late:,} of {late.clicks:,} clicks came after their window's end "
            f"({late.share:.0%}, {late.asked:.0%} were meant to): "
            "servers or shoppers do not keep up"
        )
    # Where all products fit a slate, none can be better than another.
    possible = result.click_rate_best - result.click_rate_random > ROUNDING
    if result.visits >= JUDGED_FROM and possible and result.uplift_captured_expected <= 0.0:
        yield "the slates were no better than random ones"


def _mean(values: Sequence[float] | Sequence[bool] | Floats) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _freshness(samples_ms: Sequence[float]) -> Freshness:
    if not samples_ms:
        return Freshness(None, None)
    p50, p99 = np.percentile(samples_ms, [50, 99]).tolist()
    return Freshness(round(p50, 2), round(p99, 2))
