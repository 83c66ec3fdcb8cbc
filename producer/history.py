"""History as outcomes: the past goes through the same topic and trainer as the present."""

import csv
import math
from collections.abc import Container, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from shared.catalogue import CSV_ENCODING
from shared.events import Outcome

_ID: Final = ("event_id", "product_id", "response")


class HistoryError(Exception):
    """The file is not a history; the message says where and what."""


def read_history(
    path: Path,
    features: Sequence[str],
    encoder_id: str,
    at: datetime,
    products: Container[int] | None = None,
) -> Iterator[Outcome]:
    """Outcomes from `history.csv` as `reco prepare` writes it, in its order.

    Args:
        path: the file, with the columns event_id, product_id, response and `features`. An event_id
            is a number that no other row ever sent has: it makes the outcome_id, by which trainers
            know a duplicate.
        features: the context columns, in the order of x.
        encoder_id: the encoder that made them.
        at: when these outcomes are said to have been decided and resolved.
        products: those that there are; None for any.

    Raises:
        HistoryError: no such file, a column is missing, a line holds something else (x that is not
            finite, a response outside 0 to 1) or another product, or an event_id comes twice.
    """
    try:
        file = path.open(encoding=CSV_ENCODING, newline="")
    except OSError as error:
        raise HistoryError(f"can't read {path}: {error.strerror}") from error
    with file:
        rows = csv.DictReader(file)
        try:
            missing = [name for name in (*_ID, *features) if name not in (rows.fieldnames or ())]
            if missing:
                raise HistoryError(f"{path} has no column {', '.join(missing)}")
            seen = set[int]()
            for row in rows:
                event_id = int(row["event_id"])
                if event_id in seen:
                    raise ValueError(
                        f"event_id {event_id} was another row's: give each row a number of its own"
                    )
                seen.add(event_id)
                outcome = _outcome(event_id, row, features, encoder_id, at)
                if products is not None and outcome.product_id not in products:
                    raise ValueError(f"there is no product {outcome.product_id}")
                yield outcome
        except TypeError as error:  # a cell that is not there is None
            raise HistoryError(
                f"{path}, line {rows.line_num}: it has fewer cells than the header"
            ) from error
        except (ValueError, csv.Error) as error:
            raise HistoryError(f"{path}, line {rows.line_num}: {error}") from error


def _outcome(
    event_id: int, row: dict[str, str], features: Sequence[str], encoder_id: str, at: datetime
) -> Outcome:
    decision_id = f"history-{event_id}"
    reward, x = float(row["response"]), [float(row[name]) for name in features]
    if not 0.0 <= reward <= 1.0:
        raise ValueError(f"the response {reward:g} is not in [0, 1]")
    if not all(map(math.isfinite, x)):
        raise ValueError("the context has a number that is not finite")
    return Outcome(
        outcome_id=f"{decision_id}:1",
        decision_id=decision_id,
        product_id=int(row["product_id"]),
        rank=1,
        reward=reward,
        x=x,
        encoder_id=encoder_id,
        decided_at=at,
        resolved_at=at,
    )
