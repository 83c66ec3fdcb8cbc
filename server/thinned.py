"""A series of bounded length that reaches from the first value to the last. Pure."""

from typing import Generic, TypeVar

_T = TypeVar("_T")


class Thinned(Generic[_T]):
    """Keeps every value, then every second one, then every fourth, …, and always the last.

    Args:
        most: values to keep, besides the last.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[_T] = []
        self._stride = 1
        self._count = 0
        self._last: list[_T] = []

    def append(self, value: _T) -> None:
        """Add a value."""
        self._last = [value]
        if self._count % self._stride == 0:
            self._kept.append(value)
            self._last = []
            if len(self._kept) > self._most:
                self._thin(value)
        self._count += 1

    def values(self) -> list[_T]:
        """What is kept, in order."""
        return self._kept + self._last

    def _thin(self, latest: _T) -> None:
        self._kept = self._kept[::2]
        self._stride *= 2
        if self._count % self._stride:
            self._last = [latest]
