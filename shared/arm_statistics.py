"""What the trainer keeps: the sufficient statistics of every arm, and nothing derived from them.

Per arm a: n (examinations), clicks, b = Σ r x and the packed upper triangle of Σ x xᵀ, *without*
the ridge λ. Everything that a linear policy needs (Li et al. 2010, "A Contextual-Bandit Approach
to Personalized News Article Recommendation", Algorithm 1) follows from these, so trying another
λ, α or policy never touches the state.

The sums are made one outcome after the other, element by element, in offset order: many arms at
a time, but each arm's outcomes in their order. Floating-point addition is not associative: a
matrix product over a batch would round differently for every way of cutting the stream into
batches, and a replay of the log could not be compared bit for bit.
"""

import functools
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.ports import CorruptState

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_Scalar = TypeVar("_Scalar", np.float64, np.int64)

MAGIC: Final = b"ARMS"
VERSION: Final = 1

_BLOCK: Final = 512
"""Outcomes that are expanded to products at a time: what fits a core's cache."""


class CorruptRow(CorruptState):
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
        self._dtype = row_dtype(d)
        self._counts = np.zeros((0, 3), np.int64)
        self._sums = np.zeros((0, d + packed_length(d)))
        # What is added to the sums is (x, r)[left] · (x, r)[right]: r x for b, then x xᵀ.
        upper = upper_triangle(d)
        self._left = np.concatenate([np.arange(d), upper[0]])
        self._right = np.concatenate([np.full(d, d), upper[1]])
        self._scratch: Floats | None = None

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
        return self._sums[: len(self), : self.d]

    @property
    def xx(self) -> Floats:
        """Packed upper triangles of Σ x xᵀ, K × d(d+1)/2."""
        return self._sums[: len(self), self.d :]

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
        rows = np.array(self._rows_of(arms.tolist()))
        order = rows.argsort(kind="stable")  # each arm's outcomes together, in their order
        rows, clicked, offsets = rows[order], rewards[order], offsets[order]
        terms = self._terms(X[order], clicked)
        starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
        ends = np.append(starts[1:], len(rows))
        touched = rows[starts]
        if self.gamma < 1.0:
            self._decay_and_add(rows, terms, offsets)
        else:
            terms[starts] += self._sums[touched]
            # Over an outer axis numpy adds row after row, never in pairs (held by a test).
            for row, start, end in zip(
                touched.tolist(), starts.tolist(), ends.tolist(), strict=True
            ):
                np.add.reduce(terms[start:end], axis=0, out=self._sums[row])
        self._counts[touched, 0] += ends - starts
        self._counts[touched, 1] += np.add.reduceat(clicked > 0.0, starts, dtype=np.int64)
        self._counts[touched, 2] = np.maximum(self._counts[touched, 2], offsets[ends - 1])

    def pack(self, arms: Iterable[int]) -> dict[int, bytes]:
        """The rows of these arms as they are stored (`row_dtype`, with a CRC-32)."""
        wanted = list(arms)
        rows = [self.index[arm] for arm in wanted]
        packed = np.zeros(len(rows), self._dtype)
        packed["magic"], packed["version"], packed["d"] = MAGIC, VERSION, self.d
        packed["n"], packed["clicks"], packed["last_offset"] = self._counts[rows].T
        packed["b"], packed["xx"] = self._sums[rows, : self.d], self._sums[rows, self.d :]
        packed["crc"] = _checksums(packed)
        return dict(zip(wanted, _pieces(packed), strict=True))

    def load(self, rows: Mapping[int, bytes]) -> None:
        """Take over stored rows; an arm that is there already is replaced.

        Raises:
            CorruptRow: a row has another format, d or checksum. Nothing was taken over.
        """
        if not rows:
            return
        packed = self._unpack(rows)
        at = self._rows_of(rows)
        for column, name in enumerate(("n", "clicks", "last_offset")):
            self._counts[at, column] = packed[name]
        self._sums[at, : self.d], self._sums[at, self.d :] = packed["b"], packed["xx"]

    def decayed(self, position: int) -> tuple[Floats, Floats]:
        """b and Σ x xᵀ as they count at this offset: multiplied by γ^(position - last offset)."""
        return self.decayed_to(slice(None), position)

    def decayed_to(
        self, rows: Integers | slice, positions: Integers | int
    ) -> tuple[Floats, Floats]:
        """`decayed` of some rows, each at the position of its own partition."""
        if self.gamma == 1.0:
            return self.b[rows], self.xx[rows]
        distances = np.maximum(positions - self.last_offset[rows], 0).tolist()
        factors = np.array([self._decay(distance) for distance in distances])[:, None]
        return self.b[rows] * factors, self.xx[rows] * factors

    def _terms(self, X: Floats, rewards: Floats) -> Floats:
        both = np.column_stack([X, rewards])
        # Kept between calls: to allocate it anew can cost more than all else here.
        if self._scratch is None:
            self._scratch = np.empty((2, _BLOCK, len(self._left)))
        terms: Floats = self._scratch[0, : len(X)]
        others = self._scratch[1, : len(X)]
        both.take(self._left, axis=1, out=terms, mode="clip")
        both.take(self._right, axis=1, out=others, mode="clip")
        terms *= others
        return terms

    def _rows_of(self, arms: Iterable[int]) -> list[int]:
        index = self.index
        rows = [index.setdefault(arm, len(index)) for arm in arms]
        if len(index) > len(self._sums):
            # An eighth in hand: growing stays linear on the whole, and little memory lies idle.
            room = len(index) + max(8, len(index) // 8)
            self._counts, self._sums = _grown(self._counts, room), _grown(self._sums, room)
        return rows

    def _decay_and_add(self, rows: Integers, terms: Floats, offsets: Integers) -> None:
        """What is left of an arm's sums when each outcome is added; a new arm's are 0 anyway."""
        newest = {row: int(self._counts[row, 2]) for row in rows.tolist()}
        for row, term, offset in zip(rows.tolist(), terms, offsets.tolist(), strict=True):
            self._sums[row] *= self._decay(offset - newest[row])
            self._sums[row] += term
            newest[row] = offset

    def _decay(self, distance: int) -> float:
        # math.pow, one by one: a vectorised power may round differently for other array lengths.
        return math.pow(self.gamma, distance)

    def _unpack(self, rows: Mapping[int, bytes]) -> NDArray[np.void]:
        size = self._dtype.itemsize
        for arm, row in rows.items():
            if len(row) != size:
                raise CorruptRow(f"row of arm {arm}: {len(row)} bytes; d = {self.d} takes {size}")
        packed = np.frombuffer(b"".join(rows.values()), self._dtype)
        expected = (MAGIC, VERSION, self.d)
        headers = zip(*(packed[name].tolist() for name in ("magic", "version", "d")), strict=True)
        checks = zip(rows, headers, packed["crc"].tolist(), _checksums(packed), strict=True)
        for arm, header, found, computed in checks:
            if header != expected:
                raise CorruptRow(f"row of arm {arm}: not format {VERSION} with d = {self.d}")
            if found != computed:
                raise CorruptRow(f"row of arm {arm}: the checksum does not match")
        return packed


def _checksums(packed: NDArray[np.void]) -> list[int]:
    """CRC-32 of each row, taken with 0 in the place of the CRC."""
    blank = packed.copy()
    blank["crc"] = 0
    return [zlib.crc32(row) for row in _pieces(blank)]


def _pieces(packed: NDArray[np.void]) -> list[bytes]:
    size, whole = packed.dtype.itemsize, packed.tobytes()
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def _grown(array: NDArray[_Scalar], room: int) -> NDArray[_Scalar]:
    larger = np.zeros((room, array.shape[1]), array.dtype)
    larger[: len(array)] = array
    return larger
