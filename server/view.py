"""The model as it is scored: whole, at one place of the log."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from server.scorer import Model, Policy


class View(NamedTuple):
    """One consistent model and where it stands."""

    model: Model
    positions: list[int]
    """Next outcomes offset of each partition in the model."""
    stale: bool
    """The store did not answer lately, so there may be newer outcomes."""
    parameters: dict[str, float] = {}  # noqa: RUF012 (never changed)
    """What the solution was made with, where that follows from the rows: a decision's record says
    it beside the policy's own parameters."""
    others: Mapping[str, "View"] = {}
    """Views with another solution of the same rows, by `Policy.solution`."""
    arms_id: str | None = None
    """Names the set of the model's arms (`shared.live_catalogue.arms_id`)."""

    def of(self, policy: Policy) -> "View":
        """The view that this policy scores."""
        return self.others.get(policy.solution, self)


class Viewing(Protocol):
    """What gives a consistent view (`server.model_view.ModelView`)."""

    def locked(self) -> AbstractContextManager[View]:
        """A view that does not move while it is used; keep it short."""
