"""What the decisions of a batch are made with, put together once and not for each of them."""

from typing import NamedTuple

from server.experiment import Traffic, Variant
from server.model_view import View


class Source(NamedTuple):
    """What a variant's decisions are made with."""

    variant: Variant
    parameters: dict[str, float]
    """Of the policy and of the solution that it scores."""
    view: View


def sources_of(traffic: Traffic, view: View) -> dict[str | None, Source]:
    """Each variant's part of a view, by the variant's name."""
    found = {}
    for variant in traffic.variants:
        own = view.of(variant.policy)
        found[variant.name] = Source(variant, variant.policy.parameters | own.parameters, own)
    return found
