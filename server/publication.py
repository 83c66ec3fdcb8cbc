"""How a decision and what came of it leave the server: the same records whoever asked for it."""

from collections.abc import Sequence

from shared.events import DECISIONS, OUTCOMES, Decision, Outcome, encode, key_of
from shared.ports import Delivered, Sender
from shared.tracing import Headers


def publish(
    sender: Sender,
    decision: Decision,
    outcomes: Sequence[Outcome],
    delivered: Delivered,
    headers: Headers,
    outcome_headers: Headers,
) -> None:
    """Hand over the records of one decision.

    Args:
        sender: takes them.
        decision: what was shown.
        outcomes: what came of it.
        delivered: told where the broker has put the last outcome, which is the click if there was
            one: it tells how fresh the model is.
        headers: of the decision.
        outcome_headers: of the outcomes.
    """
    send = sender.send
    send(DECISIONS, decision.visit_id.encode(), encode(decision), headers=headers)
    for outcome in outcomes:
        send(
            OUTCOMES,
            key_of(outcome.product_id),
            encode(outcome),
            headers=outcome_headers,
            on_delivered=delivered if outcome is outcomes[-1] else None,
        )
