"""What the API says of decisions, arms and products. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from server.api_types import (
    ArmResponse,
    ClickResponse,
    Coefficient,
    DecisionResponse,
    ProductResponse,
    ProductsResponse,
    RankedProduct,
    RankResponse,
)
from server.view import View
from shared.arm_statistics import upper_triangle
from shared.events import Decision, SlateItem
from shared.live_catalogue import LiveCatalogue
from shared.reward_window import Clicked, Found


class Answers:
    """Names and features added to what is known by number.

    Args:
        catalogue: the products as they are now.
        features: names of x's elements, in their order.
    """

    def __init__(self, catalogue: LiveCatalogue, features: Sequence[str]) -> None:
        self._catalogue = catalogue
        self._features = features
        self._names: dict[int, str] = {}
        self._named = -1

    @property
    def products(self) -> ProductsResponse:
        """All products that were ever ranked."""
        return ProductsResponse(
            products=[
                ProductResponse(
                    product_id=entry.product.product_id,
                    name=entry.product.name,
                    category=entry.product.category,
                    price=entry.product.price,
                    retired=entry.retired,
                )
                for entry in self._catalogue.entries.values()
                if entry.was_ranked
            ]
        )

    def _current_names(self) -> dict[int, str]:
        if self._named != self._catalogue.version:
            self._named = self._catalogue.version
            self._names = {arm: e.product.name for arm, e in self._catalogue.entries.items()}
        return self._names

    def ranked(self, decision: Decision) -> RankResponse:
        """What to show."""
        return RankResponse(
            decision_id=decision.decision_id,
            slate=self._slate(decision.slate),
            view=decision.view,
            stale=decision.stale,
        )

    def clicked(self, clicked: Clicked) -> ClickResponse:
        """A click that counts: the same answer however often it is reported.

        Raises:
            ValueError: the decision was not resolved by a click.
        """
        resolution = clicked.resolution
        if resolution is None or resolution.clicked_rank is None:
            raise ValueError("this decision was not resolved by a click")
        decision = resolution.waiting.decision
        return ClickResponse(
            decision_id=decision.decision_id,
            product_id=decision.slate[resolution.clicked_rank - 1].product_id,
            rank=resolution.clicked_rank,
            resolved_at=resolution.resolved_at,
        )

    def found(self, found: Found) -> DecisionResponse:
        """A decision and where it stands."""
        decision, resolution = found.waiting.decision, found.resolution
        rank = resolution.clicked_rank if resolution else None
        state = "waiting" if resolution is None else "clicked" if rank else "expired"
        due_ms = None if resolution else found.due_ms
        return DecisionResponse(
            decision_id=decision.decision_id,
            state=state,
            policy=decision.policy,
            parameters=decision.parameters,
            slate=self._slate(decision.slate),
            view=decision.view,
            stale=decision.stale,
            decided_at=decision.decided_at,
            expires_at=None if due_ms is None else datetime.fromtimestamp(due_ms / 1e3, UTC),
            resolved_at=resolution.resolved_at if resolution else None,
            product_id=decision.slate[rank - 1].product_id if rank else None,
            published=bool(resolution and resolution.acknowledged),
        )

    def arm(self, view: View, row: int) -> ArmResponse:
        """What is known of one arm of a view, by its row."""
        model = view.model
        rows, columns = upper_triangle(len(self._features))
        diagonal = model.solution.covariance[row][rows == columns]
        product_id = int(model.arms[row])
        return ArmResponse(
            product_id=product_id,
            name=self._current_names().get(product_id, ""),
            examinations=int(model.n[row]),
            clicks=int(model.clicks[row]),
            coefficients=[
                Coefficient(feature=feature, theta=theta, deviation=deviation)
                for feature, theta, deviation in zip(
                    self._features,
                    model.solution.theta[row].tolist(),
                    np.sqrt(diagonal).tolist(),
                    strict=True,
                )
            ],
            view=view.positions,
            stale=view.stale,
        )

    def _slate(self, slate: Sequence[SlateItem]) -> list[RankedProduct]:
        names = self._current_names()
        return [
            RankedProduct(
                item.product_id,
                names.get(item.product_id, ""),
                item.score,
                item.mean,
                item.bonus,
            )
            for item in slate
        ]
