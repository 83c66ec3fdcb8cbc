"""What leaves the server of a decision: the same records whoever asked for it. Pure."""

from collections.abc import Sequence

from shared.events import DECISIONS, OUTCOMES, Decision, Outcome, encode, key_of
from shared.ports import Delivered, Outgoing
from shared.tracing import Headers


def records_of(
    decision: Decision,
    outcomes: Sequence[Outcome],
    delivered: Delivered,
    headers: Headers,
    outcome_headers: Headers,
) -> list[Outgoing]:
    """The records of one decision.

    Args:
        decision: what was shown.
        outcomes: what came of it.
        delivered: told where the broker has put the last outcome, which is the click if there was
            one: it tells how fresh the model is.
        headers: of the decision.
        outcome_headers: of the outcomes.
    """
    records: list[Outgoing] = [
        (OUTCOMES, key_of(outcome.product_id), encode(outcome), outcome_headers, None)
        for outcome in outcomes
    ]
    if records:
        records[-1] = (*records[-1][:4], delivered)
    records.append((DECISIONS, decision.visit_id.encode(), encode(decision), headers, None))
    return records
