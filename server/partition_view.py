"""How a reader follows one partition's state: a pure state machine over what it reads and hears.

As a database replica does: listen to the changes first, then copy the state, then apply the
changes that were kept. The copy is made in pages while writing goes on, so it may be newer than
the position read before it; it counts only once the changes have carried it to the position
read after it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from shared.ports import Change, Position, Rows


class Update(NamedTuple):
    """Rows to install, after which the view stands at `next_offset`."""

    next_offset: int
    rows: Rows
    whole: bool
    """True if arms that are not among the rows are to be forgotten."""


class _Copy(NamedTuple):
    next_offset: int
    generation: int
    rows: Rows
    must_reach: int


class PartitionView:
    """Where the view of one partition stands, and what it waits for."""

    def __init__(self) -> None:
        self.next_offset = 0
        self.generation = 0
        self.must_read = True
        """The state has to be copied (again)."""
        self.gaps = 0
        """Changes that did not continue the view."""
        self._copy: _Copy | None = None
        self._behind: int | None = None

    def copied(
        self, before: Position | None, pages: Iterable[Rows], after: Position | None
    ) -> Update | None:
        """Take a copy: the position before it, its pages, the position after it."""
        rows: Rows = {}
        for page in pages:
            rows.update(page)
        start, generation = _place(before)
        must_reach, generation_after = _place(after)
        self._behind = None
        if generation != generation_after or must_reach < start:
            return None  # replaced meanwhile: copy again
        self.must_read = False
        self._copy = _Copy(start, generation, rows, must_reach)
        return self._settled()

    def heard(self, change: Change) -> Update | None:
        """Take an announced change."""
        if self.must_read:
            return None  # the copy that is due will hold it
        if self._copy:
            return self._heard_while_copying(self._copy, change)
        if change.generation == self.generation and change.to_offset <= self.next_offset:
            return None  # the copy held it already
        born = self.generation == 0 and change.from_offset == 0  # there was no state so far
        same = change.generation == self.generation or born
        if not same or change.from_offset != self.next_offset:
            self.gaps += 1
            self.must_read = True
            return None
        self.next_offset, self.generation = change.to_offset, change.generation
        return Update(change.to_offset, change.rows, whole=False)

    def checked(self, position: Position | None) -> None:
        """Compare with the store's position, asked for now and then: finds a lost message.

        A message may merely be under way, so being behind counts only if the next check still
        finds the view behind what this one saw.
        """
        next_offset, generation = _place(position)
        here = self._copy.next_offset if self._copy else self.next_offset
        there = self._copy.generation if self._copy else self.generation
        replaced = generation != there or next_offset < here
        if replaced or (self._behind is not None and here < self._behind):
            self.must_read = True
            self._copy = None
        self._behind = next_offset if here < next_offset else None

    def lost(self) -> None:
        """The feed was interrupted."""
        self.must_read = True
        self._copy = None

    def _heard_while_copying(self, copy: _Copy, change: Change) -> Update | None:
        if change.generation == copy.generation and change.to_offset <= copy.next_offset:
            return None
        # A change may start before the copy's position but not after it: rows are whole.
        if change.generation != copy.generation or change.from_offset > copy.next_offset:
            self.gaps += 1
            self.lost()
            return None
        self._copy = copy._replace(next_offset=change.to_offset, rows={**copy.rows, **change.rows})
        return self._settled()

    def _settled(self) -> Update | None:
        copy = self._copy
        if copy is None or copy.next_offset < copy.must_reach:
            return None
        self._copy = None
        self.next_offset, self.generation = copy.next_offset, copy.generation
        return Update(copy.next_offset, copy.rows, whole=True)


def _place(position: Position | None) -> tuple[int, int]:
    return (position.next_offset, position.generation) if position else (0, 0)
