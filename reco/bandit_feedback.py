"""A log in the form of Open Bandit Pipeline: a dictionary `bandit_feedback`, as .npz and as CSV.

    feedback = dict(numpy.load("bandit_feedback.npz"))

Every product that was looked at is a round, with the keys that obp documents: n_rounds, n_actions,
context, action_context, action, position, reward, pscore. `pscore` is the probability of the
product at its position given the ranks above, and `pscore_cascade` that of all ranks down to it.
`product_id` tells which product an action is, `decision_id` which rounds are of one slate.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reco.logged_rounds import Rounds
from shared.arm_statistics import Floats

NPZ: Final = "bandit_feedback.npz"
CSV: Final = "bandit_feedback.csv"

Feedback = dict[str, NDArray[Any]]


def bandit_feedback(log: Rounds, arms: Sequence[int], action_context: Floats | None) -> Feedback:
    """The dictionary.

    Args:
        log: the decisions.
        arms: product_ids; an action is an index into them.
        action_context: features of every arm, where there are any.
    """
    row, rank = np.nonzero(log.examined)
    decision_ids = np.array([decision.decision_id for decision in log.decisions])
    feedback: Feedback = {
        "n_rounds": np.array(len(row)),
        "n_actions": np.array(len(arms)),
        "context": log.X[row],
        "action": log.slates[row, rank],
        "position": rank,
        "reward": log.reward[row, rank],
        "pscore": log.propensity[row, rank],
        "pscore_cascade": np.multiply.accumulate(log.propensity, axis=1)[row, rank],
        "product_id": np.array(arms),
        "decision_id": decision_ids[row],
    }
    if action_context is not None:
        feedback["action_context"] = action_context
    return feedback


def write(folder: Path, feedback: Feedback, features: Sequence[str]) -> None:
    """Write both files.

    Args:
        folder: where to; made if it is not there.
        feedback: what to write.
        features: names of the context's columns.

    Raises:
        OSError: they can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save: Any = np.savez_compressed  # its annotation leaves no room for names from a dictionary
    save(folder / NPZ, **feedback)
    columns = ("action", "position", "reward", "pscore", "pscore_cascade")
    with (folder / CSV).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["decision_id", "product_id", *columns, *features])
        products = feedback["product_id"][feedback["action"]].tolist()
        numbers = zip(*(feedback[name].tolist() for name in columns), strict=True)
        for decision_id, product, cells, x in zip(
            feedback["decision_id"].tolist(),
            products,
            numbers,
            feedback["context"].tolist(),
            strict=True,
        ):
            writer.writerow([decision_id, product, *cells, *x])
