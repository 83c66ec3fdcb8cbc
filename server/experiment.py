"""Policies side by side: which of them serves a user. Pure.

A user meets the same policy at every visit and on every replica, since only a hash of the user
decides, salted with the experiment's name so that the next experiment divides the users anew. Over
HTTP a visit of nobody in particular is divided for itself (`server.ranking`). All policies rank
from the same rows, and every outcome trains those, whoever showed the product.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
from msgspec import structs

from server.scorer import POLICIES, Model, Policy, rank
from server.top import Words
from shared.arm_statistics import Floats
from shared.events import SlateItem

_NUMBERS: Final = ("alpha", "epsilon")


class BadExperiment(ValueError):
    """The text names no experiment; the message says how to."""


class Variant(NamedTuple):
    """One policy of an experiment."""

    name: str | None
    """None where there is no experiment."""
    policy: Policy


class Traffic:
    """Which policy serves whom.

    Args:
        variants: the policies, in the order given.
        shares: of the users, as any positive numbers.
        experiment: its name; None where all users get the one policy.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        shares: Sequence[float] = (1.0,),
        experiment: str | None = None,
    ) -> None:
        self.variants: Final = tuple(variants)
        self.experiment: Final = experiment
        edges = np.cumsum(np.array(shares, np.float64) / sum(shares)).tolist()
        self._edges = [*edges[:-1], 1.0]
        self._salt = f"{experiment}|".encode()

    @classmethod
    def to(cls, policy: Policy) -> "Traffic":
        """Everyone to one policy."""
        return cls([Variant(None, policy)])

    def variant_of(self, user_id: int) -> Variant:
        """The policy of this user."""
        if len(self.variants) == 1:
            return self.variants[0]
        digest = blake2b(self._salt + b"%d" % user_id, digest_size=8).digest()
        place = (int.from_bytes(digest, "little") >> 11) * 2.0**-53
        return next(v for v, edge in zip(self.variants, self._edges, strict=True) if place < edge)

    def rank(
        self,
        user_ids: Sequence[int],
        model_of: Callable[[Policy], Model],
        X: Floats,
        seeds: Words,
        k: int,
    ) -> list[tuple[Variant, list[SlateItem]]]:
        """The slate of every visit by its user's policy (see `server.scorer.rank`)."""
        chosen = [self.variant_of(user_id) for user_id in user_ids]
        slates: list[tuple[Variant, list[SlateItem]]] = [(variant, []) for variant in chosen]
        for variant in self.variants:
            rows = [row for row, own in enumerate(chosen) if own is variant]
            if rows:
                model = model_of(variant.policy)
                ranked = rank(variant.policy, model, X[rows], seeds[rows], k)
                for row, slate in zip(rows, ranked, strict=True):
                    slates[row] = (variant, slate)
        return slates


def parse(text: str, policy_named: Callable[[str], Policy], experiment: str) -> Traffic:
    """`linucb:50,lints/alpha=0.1:50` → the split of traffic.

    Args:
        text: policies with their shares, and after slashes what differs from their defaults.
        policy_named: a policy with the parameters that it has unless a variant says otherwise.
        experiment: its name.

    Raises:
        BadExperiment: the text does not describe an experiment.
    """
    variants, shares = [], []
    for part in text.split(","):
        name, colon, share = part.strip().rpartition(":")
        if not colon or not _is_positive(share):
            raise BadExperiment(
                f"{part.strip()!r} has no share: give POLICY:SHARE,POLICY:SHARE as in "
                "linucb:50,random:50"
            )
        variants.append(Variant(name, _policy(name, policy_named)))
        shares.append(float(share))
    if len(variants) < 2 or len({variant.name for variant in variants}) < len(variants):
        raise BadExperiment("an experiment has at least two variants, and none of them twice")
    return Traffic(variants, shares, experiment)


def _policy(name: str, policy_named: Callable[[str], Policy]) -> Policy:
    base, *settings = name.split("/")
    if base not in POLICIES:
        raise BadExperiment(f"no policy {base!r}: choose of {', '.join(POLICIES)}")
    numbers = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            numbers[key] = float(value)
        except ValueError:
            key = ""
        if key not in _NUMBERS:
            raise BadExperiment(
                f"{setting!r} in {name!r} is no setting: write linucb/alpha=0.1 or "
                "linucb/epsilon=0.05"
            )
    try:
        return structs.replace(policy_named(base), **numbers)
    except ValueError as error:
        raise BadExperiment(f"{name!r}: {error}") from error


def _is_positive(text: str) -> bool:
    try:
        return 0.0 < float(text) < float("inf")
    except ValueError:
        return False
