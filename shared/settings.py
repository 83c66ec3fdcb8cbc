"""The defaults that parts of the system must agree on."""

from typing import Final

from shared.events import DEAD_LETTERS, DECISIONS, OUTCOMES, PRODUCTS, VISITS

PARTITIONS: Final[dict[str, int]] = {
    VISITS: 12,
    DECISIONS: 12,
    OUTCOMES: 12,
    DEAD_LETTERS: 3,
    PRODUCTS: 1,
}
"""Partition count of every topic. That of `outcomes` limits the number of trainers, and it can't be
changed later: an arm would move to another partition."""

COMPACTED: Final = (PRODUCTS,)
"""Topics that keep the last record of every key for ever, instead of all records for a while."""

SLATE_LENGTH: Final = 5

POLICY: Final = "shared-linucb"
"""What serves and is simulated unless something else is asked for (`make learning-report`)."""

ALPHA: Final = 0.2
"""Exploration α: the winner of the published sweep (README)."""

SHARED_ALPHA: Final = 1.4
"""α of the policies that share between arms: one or two deviations of what they believe."""

LAMBDA: Final = 1.0

SERVER_GROUP: Final = "reco-server"
TRAINER_GROUP: Final = "reco-trainer"
