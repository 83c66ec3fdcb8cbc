"""Policies over one model: pure, vectorised over visits and arms, reproducible by decision_id."""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import starmap
from math import inf
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from server.kinship import Kin, instructive, narrowed_bonus
from server.propensities import Mixture, by_rank, by_slate, mixed_slates, propensities
from server.top import Words, even, hashed, row_starts, top_k
from shared.arm_statistics import Floats, Integers
from shared.events import SlateItem
from shared.linucb import LEAST_LAMBDA, Solution, deviations, means
from shared.settings import ALPHA, SHARED_ALPHA

JOINT: Final = ("shared-linucb", "shared")
"""Policies whose arms are solved together (`shared.shared_linucb`)."""

POLICIES: Final = ("linucb", *JOINT, "lints", "lingreedy", "popularity", "random")

DRAWING: Final = ("lints", "random")
"""Policies whose order is drawn anyhow: ε has no place in them."""

EPSILON_GREEDY: Final = 0.1


def default_alpha(policy: str) -> float:
    """The exploration α that a policy has unless something else is asked for."""
    return SHARED_ALPHA if policy in JOINT else ALPHA


class Policy(msgspec.Struct, frozen=True):
    """How a solution becomes scores.

    `linucb`: mean + α·sd (Li et al. 2010). `shared-linucb`: the same of arms that learn from each
    other; `shared`: of arms that differ by their features only (τ² = 0). `lints`: mean +
    α·sd·N(0, 1), one draw an arm, which is distributed as x·θ̃ with θ̃ ~ N(θ, α²A⁻¹) (Agrawal and
    Goyal 2013). `lingreedy`: mean, or with probability ε a slate at random. `popularity`:
    clicks/n. `random`: anything.

    With ε, the policies that draw nothing (`linucb` and its kin, `popularity`) show, at each rank,
    any of the products that are left instead of the best of them, with probability ε: then every
    slate has a probability that is known exactly, and none has none (`infra/adr/0014`).
    """

    name: str = "linucb"
    alpha: float = 0.2
    lambda_: float = 1.0
    epsilon: float | None = None
    """None: 0.1 for `lingreedy`, 0 for the others."""
    propensities: bool = False
    """Whether `lints` computes its propensities: they cost more than all else it does."""

    def __post_init__(self) -> None:
        if self.name not in POLICIES:
            raise ValueError(f"no policy {self.name!r}: choose one of {', '.join(POLICIES)}")
        if not LEAST_LAMBDA <= self.lambda_ < inf or not 0.0 <= self.alpha < inf:
            raise ValueError(
                f"lambda must be at least {LEAST_LAMBDA:g}, alpha at least 0, and both finite"
            )
        if not 0.0 <= self.mixing <= 1.0:
            raise ValueError("epsilon must be in [0, 1]")

    @property
    def mixing(self) -> float:
        """ε: how often chance takes the place of the policy's own order."""
        if self.name in DRAWING:
            return 0.0
        if self.epsilon is None:
            return EPSILON_GREEDY if self.name == "lingreedy" else 0.0
        return self.epsilon

    @property
    def solution(self) -> str:
        """Which solution of the rows it scores: one that arms share, by name, or `disjoint`."""
        return self.name if self.name in JOINT else "disjoint"

    @property
    def parameters(self) -> dict[str, float]:
        """What the decision record says of it: only what this policy uses."""
        used = {
            **{name: {"alpha": self.alpha} for name in JOINT},
            "linucb": {"alpha": self.alpha, "lambda": self.lambda_},
            "lints": {"alpha": self.alpha, "lambda": self.lambda_},
            "lingreedy": {"epsilon": self.mixing, "lambda": self.lambda_},
        }
        mixed = {"epsilon": self.mixing} if self.mixing else {}
        return used.get(self.name, {}) | mixed


class Model(NamedTuple):
    """What is scored: K arms, in the catalogue's order."""

    arms: Integers
    """product_ids, K"""
    n: Integers
    clicks: Integers
    solution: Solution
    untrained: Integers
    """Indices of the arms without outcomes."""
    kin: Kin | None = None
    """What arms that are solved together say of each other."""


class Scores(NamedTuple):
    """N × K each; `score` is ranked by, `mean` + `bonus` explains it where there is a model: it is
    their sum but for rounding (`server.top.even`)."""

    score: Floats
    mean: Floats
    bonus: Floats


def seeds_of(decision_ids: Sequence[str]) -> Words:
    """A 64-bit seed for each decision: all that is drawn for it comes from here."""
    digests = [
        blake2b(decision_id.encode(), digest_size=8).digest() for decision_id in decision_ids
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def score(policy: Policy, model: Model, X: Floats, seeds: Words) -> Scores:
    """Score every arm for every context.

    Args:
        policy: how.
        model: K arms.
        X: contexts, N × d.
        seeds: N, of `seeds_of`.
    """
    if policy.name in ("linucb", "lints", *JOINT):
        mean, bonus = means(X, model.solution), score_deviations(policy, model, X)
        bonus *= policy.alpha
        if policy.name == "lints":
            bonus *= _normal(seeds, len(model.arms))
            return Scores(mean + bonus, mean, bonus)
        return Scores(even(mean + bonus), mean, bonus)
    none = np.zeros((len(X), len(model.arms)))
    if policy.name == "random":
        return Scores(_uniform(seeds, model.arms), none, none)
    if policy.name == "popularity":
        mean = np.tile(model.clicks / np.maximum(model.n, 1), (len(X), 1))
        return Scores(mean, mean, none)
    mean = means(X, model.solution)
    explores = explores_at_random(policy, seeds)[:, None]
    return Scores(np.where(explores, _uniform(seeds, model.arms), mean), mean, none)


def choose(
    policy: Policy, model: Model, X: Floats, seeds: Words, k: int
) -> tuple[Scores, Integers]:
    """What is shown: the indices of its arms, N × k, best first, and the scores that chose them.

    Where arms learn from each other, so do those of one slate (`server.kinship`): the scores then
    are those of `score` less what the products above have taught.

    Args:
        policy: how to score.
        model: K arms; fewer than k give a shorter slate.
        X: contexts, N × d.
        seeds: N, of `seeds_of`.
        k: slate length, at least 1.
    """
    scores = score(policy, model, X, seeds)
    best = top_k(scores.score, seeds, model.arms, k)
    if policy.name in JOINT and model.kin is not None and policy.alpha > 0.0:
        rows = instructive(scores.bonus, best, policy.alpha, model.kin)
        if len(rows):
            own, mean, bonus = seeds[rows], scores.mean[rows], scores.bonus[rows]
            bonus = narrowed_bonus(mean, bonus, policy.alpha, model.kin, own, model.arms, k)
            scores.bonus[rows], scores.score[rows] = bonus, even(mean + bonus)
            best[rows] = top_k(scores.score[rows], own, model.arms, k)
    return scores, _mixed(policy, model, seeds, best)


def rank(policy: Policy, model: Model, X: Floats, seeds: Words, k: int) -> list[list[SlateItem]]:
    """The top k of every context, best first: what `choose` chooses, as it is published.

    Equal scores (all of a cold start) are ordered by a hash of decision and product: fair, and
    the same whenever it is computed again.
    """
    scores, top = choose(policy, model, X, seeds, k)
    at = top + row_starts(*scores.score.shape)
    items = list(
        starmap(
            SlateItem,
            zip(
                model.arms.take(top).ravel().tolist(),
                scores.score.take(at).ravel().tolist(),
                scores.mean.take(at).ravel().tolist(),
                scores.bonus.take(at).ravel().tolist(),
                _propensities(policy, model, X, scores, top, seeds),
                strict=True,
            ),
        )
    )
    length = top.shape[1]
    return [items[start : start + length] for start in range(0, len(items), length)]


def explores_at_random(policy: Policy, seeds: Words) -> NDArray[np.bool_]:
    """Which decisions of `lingreedy` are drawn at random (N); a draw apart from the scores'."""
    drawn: NDArray[np.bool_] = _uniform(seeds, np.array([-1]))[:, 0] < policy.mixing
    return drawn


def score_deviations(policy: Policy, model: Model, X: Floats) -> Floats:
    """√(xᵀ A_a⁻¹ x) of every context and arm, N × K."""
    result = deviations(X, model.solution)
    # Of an untrained arm it is ‖x‖/√λ. Set exactly, so that equal arms tie exactly: a matrix
    # product may round differently from one column to the next.
    if len(model.untrained):
        norms = np.einsum("ij,ij->i", X, X)
        result[:, model.untrained] = np.sqrt(norms / policy.lambda_)[:, None]
    return result


def next_rank(
    policy: Policy, model: Model, scores: Scores, seeds: Words, slates: Integers
) -> Mixture:
    """What each rank of these slates was drawn from, given the ranks above it.

    The slates may be those of another policy. Of `lints` there is no such mixture
    (`server.thompson`).
    """
    count, k = slates.shape
    if policy.name == "random":
        return Mixture(slates, np.zeros((count, k)))
    own = scores.mean if policy.name == "lingreedy" else scores.score
    best = top_k(own, seeds, model.arms, k)
    if policy.name == "lingreedy":
        return by_slate(best, slates, policy.mixing, len(model.arms))
    return by_rank(best, slates, policy.mixing)


def _mixed(policy: Policy, model: Model, seeds: Words, best: Integers) -> Integers:
    """What is shown of the best, N × k: chance takes some of their places where there is an ε."""
    if policy.name == "lingreedy" or not policy.mixing:
        return best
    ranks = -1 - np.arange(best.shape[1])  # no product has such an id: draws of their own
    explores = _uniform(seeds, ranks) < policy.mixing
    if not explores.any():
        return best
    drawn = top_k(_uniform(seeds, model.arms), seeds, model.arms, best.shape[1])
    return mixed_slates(best, drawn, explores)


def _propensities(
    policy: Policy, model: Model, X: Floats, scores: Scores, top: Integers, seeds: Words
) -> Sequence[float | None]:
    """Probability of each rank's product given the ranks above it; None where unknown.

    N·k of them, a slate's one after the other.
    """
    if policy.name == "lints":
        if not policy.propensities:
            return [None] * top.size
        from server import thompson  # brings scipy.special: most of a server's start, for few

        deviations = policy.alpha * score_deviations(policy, model, X)
        rows = zip(scores.mean, deviations, top, strict=True)
        return [p for row in rows for p in thompson.propensities(*row).tolist()]
    if policy.name != "random" and not policy.mixing:
        return [1.0] * top.size
    mixture = next_rank(policy, model, scores, seeds, top)
    found: list[float] = propensities(mixture, top, len(model.arms)).ravel().tolist()
    return found


def _uniform(seeds: Words, arms: Integers) -> Floats:
    """Numbers in [0, 1), one for each (decision, product)."""
    draws: Floats = (hashed(seeds ^ _SALT, arms) >> np.uint64(11)).astype(np.float64)
    draws *= 2.0**-53
    return draws


def _normal(seeds: Words, arms: int) -> Floats:
    """Standard normal draws, N × K, each row from a generator of its own."""
    draws = np.empty((len(seeds), arms))
    for row, seed in zip(draws, seeds.tolist(), strict=True):
        np.random.Generator(np.random.PCG64(seed)).standard_normal(out=row)
    return draws


_SALT: Final = np.uint64(0xD1B54A32D192ED03)
"""Keeps the draws apart from the tie-breaks, which use the same hash."""
