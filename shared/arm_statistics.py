"""What the trainer keeps: the sufficient statistics of every arm, and nothing derived from them.

Per arm a: n (examinations), clicks, b = Σ r x and the packed upper triangle of Σ x xᵀ, *without*
the ridge λ. Everything that a linear policy needs (Li et al. 2010, "A Contextual-Bandit Approach
to Personalized News Article Recommendation", Algorithm 1) follows from these, so trying another
λ, α or policy never touches the state.

The sums are made one outcome after the other, element by element, in offset order. Floating-point
addition is not associative: a matrix product over a batch would round differently for every way
of cutting the stream into batches, and a replay of the log could not be compared bit for bit.
"""

import functools
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MAGIC: Final = b"ARMS"
VERSION: Final = 1

_BLOCK: Final = 256
"""Outcomes that are expanded to products at a time: what fits a core's cache."""


class CorruptRow(ValueError):
    """A stored row is not what `ArmStatistics.pack` wrote."""


def packed_length(d: int) -> int:
    """Number of elements in the upper triangle of a d × d matrix."""
    return d * (d + 1) // 2


@functools.cache
def upper_triangle(d: int) -> tuple[Integers, Integers]:
    """Row and column of each element of a packed upper triangle, in its order."""
    rows, columns = np.triu_indices(d)
    return rows.astype(np.int64), columns.astype(np.int64)


def row_dtype(d: int) -> np.dtype[np.void]:
    """Layout of a stored row: little-endian, no padding; 1,116 bytes at d = 15."""
    return np.dtype(
        [
            ("magic", "S4"),
            ("version", "<u2"),
            ("d", "<u2"),
            ("n", "<i8"),
            ("clicks", "<i8"),
            ("last_offset", "<i8"),
            ("crc", "<u4"),
            ("b", "<f8", (d,)),
            ("xx", "<f8", (packed_length(d),)),
        ]
    )


class ArmStatistics:
    """The statistics of many arms, as arrays with one row an arm.

    Args:
        d: length of a context x.
        gamma: forgetting factor γ in (0, 1]. With γ < 1, b and Σ x xᵀ are multiplied by
            γ^(offset - last offset of the arm) before an outcome is added: a function of the log,
            not of a clock. n and clicks stay plain counts. γ = 1 changes no bit.
    """

    def __init__(self, d: int, gamma: float = 1.0) -> None:
        if d < 1:
            raise ValueError(f"d must be at least 1, not {d}")
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma must be in (0, 1], not {gamma}")
        self.d = d
        self.gamma = gamma
        self.index: dict[int, int] = {}
        """Arm → its row in the arrays."""
        self._upper = upper_triangle(d)
        self._dtype = row_dtype(d)
        self._counts = np.zeros((0, 3), np.int64)
        self._b = np.zeros((0, d))
        self._xx = np.zeros((0, packed_length(d)))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def arms(self) -> list[int]:
        """The arms with at least one outcome or loaded row, in row order."""
        return list(self.index)

    @property
    def n(self) -> Integers:
        """Examinations, one an arm."""
        return self._counts[: len(self), 0]

    @property
    def clicks(self) -> Integers:
        """Outcomes with a reward above 0, one an arm."""
        return self._counts[: len(self), 1]

    @property
    def last_offset(self) -> Integers:
        """Offset of the last outcome that was added, one an arm."""
        return self._counts[: len(self), 2]

    @property
    def b(self) -> Floats:
        """Σ r x, K × d."""
        return self._b[: len(self)]

    @property
    def xx(self) -> Floats:
        """Packed upper triangles of Σ x xᵀ, K × d(d+1)/2."""
        return self._xx[: len(self)]

    def add(self, arms: Integers, X: Floats, rewards: Floats, offsets: Integers) -> None:
        """Fold N outcomes in, in the order given.

        The result is bit-identical however a sequence is cut into calls.

        Args:
            arms: N arms; those not seen before start at zero.
            X: contexts, N × d.
            rewards: N rewards.
            offsets: N log offsets, ascending.
        """
        for start in range(0, len(arms), _BLOCK):
            block = slice(start, start + _BLOCK)
            self._add_block(arms[block], X[block], rewards[block], offsets[block])

    def _add_block(self, arms: Integers, X: Floats, rewards: Floats, offsets: Integers) -> None:
        rows = self._rows_of(arms)
        order = np.argsort(rows, kind="stable")
        starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
        lengths = np.diff(starts, append=len(rows))
        Q = X[:, self._upper[0]] * X[:, self._upper[1]]
        R = X * rewards[:, None]
        # Both ways add the same numbers in the same order; which is quicker depends on the shape.
        if self.gamma == 1.0 and len(starts) < lengths.max():
            self._add_arm_by_arm(rows, order, starts, lengths, R, Q)
        else:
            self._add_round_by_round(rows, order, starts, lengths, R, Q, offsets)
        last = order[starts + lengths - 1]
        touched = rows[last]
        self._counts[touched, 0] += lengths
        self._counts[touched, 1] += np.add.reduceat((rewards > 0.0)[order].astype(np.int64), starts)
        self._counts[touched, 2] = offsets[last]

    def pack(self, arms: Iterable[int]) -> dict[int, bytes]:
        """The rows of these arms as they are stored (`row_dtype`, with a CRC-32)."""
        wanted = list(arms)
        rows = [self.index[arm] for arm in wanted]
        packed = np.zeros(len(rows), self._dtype)
        packed["magic"], packed["version"], packed["d"] = MAGIC, VERSION, self.d
        packed["n"], packed["clicks"], packed["last_offset"] = self._counts[rows].T
        packed["b"], packed["xx"] = self._b[rows], self._xx[rows]
        for i in range(len(rows)):
            packed["crc"][i] = zlib.crc32(packed[i].tobytes())  # with 0 in the place of the CRC
        return {arm: packed[i].tobytes() for i, arm in enumerate(wanted)}

    def load(self, rows: Mapping[int, bytes]) -> None:
        """Take over stored rows; an arm that is there already is replaced.

        Raises:
            CorruptRow: a row has another format, d or checksum. Nothing was taken over.
        """
        if not rows:
            return
        packed = self._unpack(rows)
        at = self._rows_of(np.fromiter(rows, np.int64, len(rows)))
        for column, name in enumerate(("n", "clicks", "last_offset")):
            self._counts[at, column] = packed[name]
        self._b[at], self._xx[at] = packed["b"], packed["xx"]

    def decayed(self, position: int) -> tuple[Floats, Floats]:
        """b and Σ x xᵀ as they count at this offset: multiplied by γ^(position - last offset)."""
        if self.gamma == 1.0:
            return self.b, self.xx
        factor = self._decay(np.maximum(position - self.last_offset, 0))
        return self.b * factor[:, None], self.xx * factor[:, None]

    def _rows_of(self, arms: Integers) -> Integers:
        wanted = arms.tolist()
        for arm in wanted:
            self.index.setdefault(arm, len(self.index))
        if len(self.index) > len(self._b):
            self._reserve(len(self.index))
        return np.fromiter(map(self.index.__getitem__, wanted), np.int64, len(wanted))

    def _reserve(self, size: int) -> None:
        # An eighth in hand: growing stays linear on the whole, and little memory lies idle.
        room = size + max(8, size // 8)
        for name in ("_counts", "_b", "_xx"):
            old = getattr(self, name)
            new = np.zeros((room, old.shape[1]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def _add_arm_by_arm(
        self,
        rows: Integers,
        order: Integers,
        starts: Integers,
        lengths: Integers,
        R: Floats,
        Q: Floats,
    ) -> None:
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            events = order[start : start + length]
            row = rows[events[0]]
            for state, terms in ((self._b, R), (self._xx, Q)):
                summands = np.empty((length + 1, terms.shape[1]))
                summands[0], summands[1:] = state[row], terms[events]
                # `accumulate` is by definition one addition after the other; `sum` is not.
                state[row] = np.add.accumulate(summands, axis=0, out=summands)[-1]

    def _add_round_by_round(
        self,
        rows: Integers,
        order: Integers,
        starts: Integers,
        lengths: Integers,
        R: Floats,
        Q: Floats,
        offsets: Integers,
    ) -> None:
        # Round k takes the k-th outcome of every arm: within a round each arm stands once.
        last = self._counts[:, 2].copy()
        for k in range(int(lengths.max())):
            events = order[starts[lengths > k] + k]
            at = rows[events]
            if self.gamma < 1.0:
                known = (self._counts[at, 0] > 0) | (k > 0)
                factor = np.where(known, self._decay(offsets[events] - last[at]), 1.0)[:, None]
                self._b[at] *= factor
                self._xx[at] *= factor
                last[at] = offsets[events]
            self._b[at] += R[events]
            self._xx[at] += Q[events]

    def _decay(self, distances: Integers) -> Floats:
        # math.pow, one by one: a vectorised power may round differently for other array lengths.
        return np.array([math.pow(self.gamma, distance) for distance in distances.tolist()])

    def _unpack(self, rows: Mapping[int, bytes]) -> NDArray[np.void]:
        size = self._dtype.itemsize
        for arm, row in rows.items():
            if len(row) != size:
                raise CorruptRow(f"row of arm {arm}: {len(row)} bytes; d = {self.d} takes {size}")
        packed = np.frombuffer(bytearray().join(rows.values()), self._dtype)
        checksums = packed["crc"].copy()
        packed["crc"] = 0
        for i, arm in enumerate(rows):
            if (packed["magic"][i], packed["version"][i], packed["d"][i]) != (
                MAGIC,
                VERSION,
                self.d,
            ):
                raise CorruptRow(f"row of arm {arm}: not format {VERSION} with d = {self.d}")
            if zlib.crc32(packed[i].tobytes()) != checksums[i]:
                raise CorruptRow(f"row of arm {arm}: the checksum does not match")
        return packed
