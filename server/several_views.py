"""Views of the same rows with different solutions, for policies side by side."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Protocol

from server.readiness import Following
from server.view import View, Viewing


class Followed(Viewing, Following, Protocol):
    """A view, and what is known of how it is kept up to date (`server.model_view.ModelView`)."""

    @property
    def solution_age_s(self) -> float: ...

    @property
    def stale(self) -> bool: ...

    @property
    def positions(self) -> list[int]: ...

    @property
    def gaps(self) -> int: ...

    @property
    def nbytes(self) -> int: ...


class SeveralViews:
    """Stands where one view does (`Followed`), and is as good as the worst of them.

    Args:
        views: by `Policy.solution`, the main one first.
    """

    def __init__(self, views: Mapping[str, Followed]) -> None:
        self._views = dict(views)

    @contextmanager
    def locked(self) -> Iterator[View]:
        """See `Viewing.locked`: all of them, held together."""
        with ExitStack() as held:
            seen = {kind: held.enter_context(view.locked()) for kind, view in self._views.items()}
            yield next(iter(seen.values()))._replace(others=seen)

    @property
    def ready(self) -> bool:
        """Whether every policy has a whole model."""
        return all(view.ready for view in self._views.values())

    @property
    def error(self) -> str:
        """Why one of them is not ready, or stale; empty if none is."""
        return next((view.error for view in self._views.values() if view.error), "")

    @property
    def age_s(self) -> float:
        """Of the oldest."""
        return max(view.age_s for view in self._views.values())

    @property
    def solution_age_s(self) -> float:
        """Of the one that is furthest behind what was read."""
        return max(view.solution_age_s for view in self._views.values())

    @property
    def stale(self) -> bool:
        """Whether one of them is."""
        return any(view.stale for view in self._views.values())

    @property
    def positions(self) -> list[int]:
        """Next outcomes offset of each partition that all of them have reached."""
        return [
            min(each) for each in zip(*(v.positions for v in self._views.values()), strict=True)
        ]

    @property
    def gaps(self) -> int:
        """Of all."""
        return sum(view.gaps for view in self._views.values())

    @property
    def nbytes(self) -> int:
        """Of all."""
        return sum(view.nbytes for view in self._views.values())
