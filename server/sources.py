"""What the decisions of a batch are made with, put together once and not for each of them."""

from datetime import datetime
from typing import Literal, NamedTuple

from server.experiment import Traffic, Variant
from server.view import View
from shared.events import Decision, SlateItem


class Source(NamedTuple):
    """What a variant's decisions are made with."""

    variant: Variant
    parameters: dict[str, float]
    """Of the policy and of the solution that it scores."""
    view: View
    experiment: str | None

    def decision(
        self,
        *,
        decision_id: str,
        visit_id: str,
        user_id: int,
        x: list[float],
        encoder_id: str,
        slate: list[SlateItem],
        decided_at: datetime,
        via: Literal["stream", "http"],
    ) -> Decision:
        """The record of one (see `shared.events.Decision`)."""
        return Decision(
            decision_id=decision_id,
            visit_id=visit_id,
            user_id=user_id,
            policy=self.variant.policy.name,
            parameters=self.parameters,
            x=x,
            encoder_id=encoder_id,
            view=self.view.positions,
            slate=slate,
            decided_at=decided_at,
            stale=self.view.stale,
            via=via,
            experiment=self.experiment,
            variant=self.variant.name,
            arms_id=self.view.arms_id,
        )


def sources_of(traffic: Traffic, view: View) -> dict[str | None, Source]:
    """Each variant's part of a view, by the variant's name."""
    found = {}
    for variant in traffic.variants:
        own = view.of(variant.policy)
        parameters = variant.policy.parameters | own.parameters
        found[variant.name] = Source(variant, parameters, own, traffic.experiment)
    return found
