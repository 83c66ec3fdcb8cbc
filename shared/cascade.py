"""What a click, or none, says about each rank: the cascade model.

Craswell, Zoeter, Taylor and Ramsey 2008, "An experimental comparison of click position-bias
models": the shopper looks from the top down and stops at the first click.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from shared.events import Decision, Outcome

Reward: TypeAlias = tuple[int, int]
"""(rank from 1 on, reward 0 or 1)"""

Feedback: TypeAlias = Callable[[int | None, int], Sequence[Reward]]
"""(clicked rank or None, slate length) → what is learned, by rank."""


def cascade(clicked_rank: int | None, slate_length: int, depth: int) -> Sequence[Reward]:
    """0 for the ranks before the click and 1 for it; those behind it were never looked at.

    Args:
        clicked_rank: from 1 on, or None without a click.
        slate_length: number of products shown.
        depth: how many ranks a shopper looks at who does not click.

    Raises:
        ValueError: the clicked rank is not on the slate.
    """
    if clicked_rank is None:
        return [(rank, 0) for rank in range(1, min(depth, slate_length) + 1)]
    _check(clicked_rank, slate_length)
    return [*((rank, 0) for rank in range(1, clicked_rank)), (clicked_rank, 1)]


def top1(clicked_rank: int | None, slate_length: int) -> Sequence[Reward]:
    """1 for the clicked product, or without a click 0 for the first, and nothing else.

    For comparison: ranks from 2 on then see positives only, and their estimates drift up.

    Raises:
        ValueError: the clicked rank is not on the slate.
    """
    if clicked_rank is None:
        return [(1, 0)] if slate_length else []
    _check(clicked_rank, slate_length)
    return [(clicked_rank, 1)]


def outcomes_of(
    decision: Decision, rewards: Sequence[Reward], resolved_at: datetime
) -> list[Outcome]:
    """What is learned of a decision, as records: the same whoever makes them, however often."""
    return [
        Outcome(
            outcome_id=f"{decision.decision_id}:{rank}",
            decision_id=decision.decision_id,
            product_id=decision.slate[rank - 1].product_id,
            rank=rank,
            reward=float(reward),
            x=decision.x,
            encoder_id=decision.encoder_id,
            decided_at=decision.decided_at,
            resolved_at=resolved_at,
        )
        for rank, reward in rewards
    ]


def _check(clicked_rank: int, slate_length: int) -> None:
    if not 1 <= clicked_rank <= slate_length:
        raise ValueError(f"rank {clicked_rank} is not on a slate of {slate_length}")
