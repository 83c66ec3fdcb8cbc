"""What another policy would have earned, from the log of this one: estimators under the cascade.

A decision shows k products and the shopper looks from the top down until the first click, so the
reward of rank r depends on the first r products only, and is weighted by how much likelier the
other policy would have shown exactly those:

    w_r = Π_{j ≤ r} π(a_j | x, a_1 … a_{j-1}) / p_j

`ips` (McInerney et al. 2020, "Counterfactual Evaluation of Slate Recommendations with Sequential
Reward Interactions") averages Σ_r w_r r_r; `snips` divides rank by rank by the weights' mean; `dr`
(Jiang and Li 2016, "Doubly Robust Off-policy Value Evaluation for Reinforcement Learning"; for
this cascade Kiyohara et al. 2022) predicts rewards and weights only what the prediction missed.
All three estimate the click rate of a slate; their intervals are those of the central limit
theorem, so they are to be believed where the effective sample size is not small, and rewards vary.

The policy that was logged may learn as it goes, so decisions are not independent: later ones
depend on earlier rewards. Each term of `ips` and `dr` is right given all that came before, if what
is predicted comes from there too; the interval then is that of the martingale central limit
theorem.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.arm_statistics import ArmStatistics, Floats, Integers
from shared.linucb import Solution, means, solve, untrained

CONFIDENCE: Final = 0.95
ENOUGH: Final = 50
"""Effective visits below which the intervals of the central limit theorem mean little
(`python -m tests.benchmarks.coverage`)."""
_RIDGE: Final = 1.0
_NO_WIDTH: Final = 1e-9


class Log(NamedTuple):
    """N decisions of k ranks."""

    propensity: Floats
    """Of each product shown, given the ranks above, by the policy that was logged. N × k"""
    target: Floats
    """The same by the policy to be evaluated. N × k"""
    reward: Floats
    """N × k; 0 at ranks that were not looked at."""


class Prediction(NamedTuple):
    """What is believed of the rewards beforehand."""

    shown: Floats
    """Of each product shown, N × k."""
    expected: Floats
    """Of the next product as the target policy chooses it, given the ranks above, N × k."""
    ahead: Floats
    """Chance of a click from rank r on under the target policy, N × (k + 1), the last 0. Any
    guess will do: a better one makes the interval narrower."""


class Estimate(msgspec.Struct, frozen=True):
    """A click rate with its 95 % interval."""

    estimator: str
    value: float | None
    """In [0, 1] and in the interval: what lies outside is moved to the nearer end, which is never
    further from the truth. That it did is a sign of bad overlap."""
    interval: tuple[float, float] | None
    decisions: int
    """How many decisions say anything about it: those with a weight above 0, or that matched."""


class Overlap(msgspec.Struct, frozen=True):
    """How far the log covers the policy; by the weights of whole slates."""

    mean_weight: float
    """1 but for chance where it does."""
    effective_sample_size: float
    """(Σ w)² / Σ w²"""
    largest_weight: float
    covered: bool
    """False if the mean weight is too far from 1 to be chance: then no estimate here is right."""


def weights(log: Log) -> Floats:
    """w_r of every decision, N × k."""
    ratio: Floats = log.target / log.propensity
    return np.multiply.accumulate(ratio, axis=1)


def overlap(log: Log) -> Overlap:
    """How far the log covers the target policy."""
    w = weights(log)[:, -1]
    mean, squares = float(w.mean()), float((w * w).sum())
    error = float(w.std()) / math.sqrt(len(w))
    return Overlap(
        mean,
        float(w.sum()) ** 2 / squares if squares > 0.0 else 0.0,
        float(w.max()),
        abs(mean - 1.0) <= 4.0 * error + 1e-9 if mean > 0.0 else False,
    )


def doubt(found: Overlap, estimates: Sequence[Estimate]) -> str | None:
    """Why the estimates should not be believed, if so."""
    if not found.covered:
        return (
            f"the mean weight is {found.mean_weight:.2f} instead of 1: the log does not reach what "
            "the policy would show, and ips and snips are wrong by more than their intervals say"
        )
    if found.effective_sample_size < ENOUGH:
        return (
            f"the log is worth only {found.effective_sample_size:.0f} visits to this policy: the "
            "intervals, those of ips above all, are too narrow"
        )
    between = [(each.estimator, each.interval) for each in estimates if each.interval]
    if sure := [name for name, (low, high) in between if high - low < _NO_WIDTH]:
        return (
            f"the interval of {' and of '.join(sure)} has no width, since the weighted rewards are "
            "all alike (was nothing clicked?) or their mean is no click rate: it does not say how "
            "far off the estimate is"
        )
    return None


def ips(log: Log) -> Estimate:
    """Inverse propensity scores, rank by rank."""
    return _estimate("ips", ips_terms(log), weights(log))


def ips_terms(log: Log) -> Floats:
    """What `ips` averages, N: unbiased."""
    terms: Floats = (weights(log) * log.reward).sum(axis=1)
    return terms


def snips(log: Log) -> Estimate:
    """The same, with each rank's weights divided by their mean: a little bias, less variance."""
    w = weights(log)
    total = w.mean(axis=0)
    if not total.all():
        return Estimate("snips", None, None, _touched(w))
    own = (w * log.reward).mean(axis=0) / total
    # The delta method: how each decision moves the ratio.
    influence = (w * (log.reward - own) / total).sum(axis=1)
    return _estimate("snips", influence + own.sum(), w)


def doubly_robust(log: Log, prediction: Prediction) -> Estimate:
    """What is predicted, plus the weighted error of the prediction, rank by rank."""
    return _estimate("dr", doubly_robust_terms(log, prediction), weights(log))


def doubly_robust_terms(log: Log, prediction: Prediction) -> Floats:
    """What `doubly_robust` averages, N: unbiased.

    That needs predictions that know nothing of a decision's reward, nor of what came of it.
    """
    ratio = log.target / log.propensity
    value = np.zeros(len(ratio))
    for rank in reversed(range(ratio.shape[1])):
        ahead, reward = prediction.ahead[:, rank + 1], log.reward[:, rank]
        shown, expected = prediction.shown[:, rank], prediction.expected[:, rank]
        after = np.where(reward > 0.0, 0.0, value)  # a click ends the scan
        missed = reward + after - (shown + (1.0 - shown) * ahead)
        value = expected + (1.0 - expected) * ahead + ratio[:, rank] * missed
    return value


def on_policy(reward: Floats) -> Estimate:
    """The click rate of the policy that was logged.

    Where rewards are clicks, with Wilson's interval: it has a width where none was clicked too.
    """
    total = reward.sum(axis=1)
    found = _estimate("logged", total, np.ones_like(reward))
    if not np.isin(total, (0.0, 1.0)).all():
        return found
    interval = wilson_interval(int(total.sum()), len(total), CONFIDENCE)
    return msgspec.structs.replace(found, interval=interval)


def replay(matched: NDArray[np.bool_], reward: Floats, examined: NDArray[np.bool_]) -> Estimate:
    """The prototype's rule, product by product: of those looked at, keep what the policy shows too.

    It says how often such a product was clicked, not how often a slate is, and it is unbiased only
    for a log that chose its products uniformly (Li et al. 2011).

    Args:
        matched: the logged product is among the k of the target policy, N × k.
        reward: N × k.
        examined: N × k.
    """
    kept = matched & examined
    trials, clicks = int(kept.sum()), int((reward[kept] > 0.0).sum())
    interval = wilson_interval(clicks, trials, CONFIDENCE)
    return Estimate("replay", clicks / trials if trials else None, interval, trials)


def clicks_ahead(q: Floats) -> Floats:
    """Chance of a click from each rank on, N × (k + 1), from that at each rank, N × k."""
    none = np.cumprod((1.0 - q)[:, ::-1], axis=1)[:, ::-1]
    result: Floats = np.concatenate([1.0 - none, np.zeros((len(q), 1))], axis=1)
    return result


def predicted_rewards(
    slates: Integers,
    X: Floats,
    reward: Floats,
    examined: NDArray[np.bool_],
    arms: int,
    decided_s: Floats | None = None,
) -> Floats:
    """Chance of a click on every arm in every context, N × K, by ridge regression an arm.

    Each decision is predicted from earlier ones only. From any others (as in cross-fitting) it
    would not do: what a policy that learns showed later depends on this reward. There is a fit for
    the second decision, the next two, the next four, …: each from all before, in twice the time of
    one fit to the log. Of the first nothing is predicted.

    Args:
        slates: indices of the arms shown, N × k.
        X: contexts, N × d.
        reward, examined: N × k.
        arms: K.
        decided_s: when each was decided, N; None where rows are in that order.
    """
    order = np.arange(len(X)) if decided_s is None else np.argsort(decided_s, kind="stable")
    result = np.zeros((len(X), arms))
    start = 1
    while start < len(X):
        before, rows = order[:start], order[start : 2 * start]
        fit, base = _fit(slates[before], X[before], reward[before], examined[before], arms)
        result[rows] = np.clip(base + means(X[rows], fit), 0.0, 1.0)
        start *= 2
    return result


def _fit(
    slates: Integers, X: Floats, reward: Floats, examined: NDArray[np.bool_], arms: int
) -> tuple[Solution, float]:
    """A regression an arm of what the reward exceeds the mean by, and that mean."""
    row, rank = np.nonzero(examined)
    base = float(reward[examined].mean()) if len(row) else 0.0
    statistics = ArmStatistics(X.shape[1])
    statistics.add(slates[row, rank], X[row], reward[row, rank] - base, np.arange(len(row)))
    fit = untrained(arms, X.shape[1], _RIDGE)
    if len(statistics):
        fit.theta[statistics.arms] = solve(statistics.b, statistics.xx, _RIDGE).theta
    return fit, base


def wilson_interval(successes: int, trials: int, confidence: float) -> tuple[float, float] | None:
    """Score interval of a binomial share (Wilson 1927); None without trials."""
    if trials == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half_width = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return max(0.0, (centre - half_width) / scale), min(1.0, (centre + half_width) / scale)


def _estimate(name: str, values: Floats, w: Floats) -> Estimate:
    count, mean = len(values), float(values.mean())
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    half_width = z * float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.inf
    low, value, high = (
        min(max(end, 0.0), 1.0) for end in (mean - half_width, mean, mean + half_width)
    )
    return Estimate(name, value, (low, high), _touched(w))


def _touched(w: Floats) -> int:
    return int((w[:, 0] > 0.0).sum())
