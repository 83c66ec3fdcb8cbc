"""How long simulated shoppers think before they click: pure, a function of seed and visit."""

import math
from hashlib import blake2b
from statistics import NormalDist
from typing import Final, NamedTuple

_NORMAL: Final = NormalDist()


class Habits(NamedTuple):
    """Thinking times are log-normal: most are short, a few are long."""

    median_s: float = 1.0
    sigma: float = 0.7
    """Of the logarithm: about two thirds think between median/2 and 2·median."""
    late_share: float = 0.0
    """Of the clicks, how many come only after `late_s`."""
    late_s: float = 60.0


def thinking_s(habits: Habits, seed: int, visit_id: str) -> float:
    """Seconds from the slate to the click."""
    digest = blake2b(f"{seed}|{visit_id}|thinks".encode(), digest_size=16).digest()
    if _uniform(digest[8:]) < habits.late_share:
        return habits.late_s
    return habits.median_s * math.exp(habits.sigma * _NORMAL.inv_cdf(_uniform(digest[:8])))


def _uniform(word: bytes) -> float:
    """In (0, 1): both ends left out."""
    return ((int.from_bytes(word, "little") >> 12) + 0.5) * 2.0**-52
