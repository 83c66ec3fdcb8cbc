"""The simulated shoppers' reaction: the hidden model, asked by stream mode in their place."""

from collections.abc import Sequence
from typing import Final

from reco.uplift import ExpectedClicks
from server.stream import React
from shared.cascade import Feedback, cascade, top1
from shared.catalogue import DataSet
from shared.events import Visit
from shared.ground_truth import GroundTruth

FEEDBACK: Final = ("cascade", "top1")


def reaction(data: DataSet, seed: int, depth: int, expected: ExpectedClicks | None = None) -> React:
    """How the shoppers of this world react to their slates, looking at the first `depth` ranks.

    The dice are a hash of seed, visit and product: whichever replica serves a visit, however often,
    the same slate gets the same reaction. What the slates are worth is added to `expected`.
    """
    truth = GroundTruth(data.products, data.encoder, seed)
    column = {product.product_id: i for i, product in enumerate(data.products)}

    def react(visits: Sequence[Visit], slates: Sequence[Sequence[int]]) -> list[int | None]:
        P = truth.click_probabilities([visit.context for visit in visits])
        columns = [[column[product_id] for product_id in slate] for slate in slates]
        if expected is not None:
            expected.add(P, columns)
        return [
            truth.examine(visit.visit_id, slate[:depth], row[shown[:depth]])
            for visit, slate, shown, row in zip(visits, slates, columns, P, strict=True)
        ]

    return react


def feedback_rule(name: str, depth: int) -> Feedback:
    """`cascade`, or for comparison `top1`, which gives only the clicked or first item an update."""
    if name == "top1":
        return top1
    return lambda clicked_rank, length: cascade(clicked_rank, length, depth)
