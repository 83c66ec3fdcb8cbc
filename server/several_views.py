"""Views of the same rows with different solutions, for policies side by side."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from server.view import View, Viewing


class SeveralViews:
    """Stands where one view does (`server.view.Viewing`).

    Args:
        views: by `Policy.solution`, the main one first.
    """

    def __init__(self, views: Mapping[str, Viewing]) -> None:
        self._views = dict(views)

    @contextmanager
    def locked(self) -> Iterator[View]:
        """See `Viewing.locked`: all of them, held together."""
        with ExitStack() as held:
            seen = {kind: held.enter_context(view.locked()) for kind, view in self._views.items()}
            yield next(iter(seen.values()))._replace(others=seen)
