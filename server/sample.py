"""Which decisions the live page looks at where there are too many: a share, by their names. Pure.

All records of a decision are taken or none, so what is seen of one is all that there is of it. How
many are taken changes as it runs, always by powers of two: fewer are then a part of more. Over HTTP
a click is known long before its absence; a decision therefore counts only if it has been among
those taken ever since it was made, else one of the two would be favoured.
"""

import zlib


def is_among(decision_id: str, one_in: int) -> bool:
    """Whether this decision is taken, where one in so many is."""
    return zlib.crc32(decision_id.encode()) % one_in == 0


class Sample:
    """How many are taken now, and were before."""

    def __init__(self) -> None:
        self.one_in = 1
        """A power of two."""
        self._before: list[tuple[float, int]] = []
        """Until when one in how many was taken, where those were fewer than later; in order."""

    def take(self, one_in: int, now_s: float) -> None:
        """From now on one in so many is taken.

        Args:
            one_in: a power of two.
            now_s: seconds since 1970.
        """
        if one_in < self.one_in:
            self._before = [each for each in self._before if each[1] > self.one_in]
            self._before.append((now_s, self.one_in))
        self.one_in = one_in

    def counts(self, decision_id: str, decided_s: float) -> bool:
        """Whether this decision has been among those taken ever since it was made.

        Args:
            decision_id: its name.
            decided_s: when it was made, seconds since 1970.
        """
        since = (one_in for until_s, one_in in self._before if decided_s < until_s)
        return is_among(decision_id, max(since, default=1)) and is_among(decision_id, self.one_in)
