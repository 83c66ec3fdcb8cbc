"""Whether a server should be given visits, and if not, why. Pure."""

import re
from collections.abc import Sequence
from typing import Final, Protocol

STALE_LIMIT_S: Final = 30.0
"""How old a view may be while the store is away: serving goes on, new work should go elsewhere."""

_ADDRESS: Final = re.compile(r"(?: (?:at|to|from))? *[^\s;]*:\d+[/\w]*")


class Following(Protocol):
    """What is asked of the view (`ModelView`)."""

    @property
    def ready(self) -> bool: ...

    @property
    def age_s(self) -> float: ...

    @property
    def error(self) -> str: ...


class Publishing(Protocol):
    """What is asked of who publishes what came of slates (`Resolver`)."""

    @property
    def error(self) -> str: ...


class Entrance(Protocol):
    """What is asked of where requests come in (`Gate`)."""

    @property
    def draining(self) -> bool: ...


def not_ready(
    view: Following, *, stale_limit_s: float = STALE_LIMIT_S, missing: Sequence[str] = ()
) -> list[str]:
    """Why not; empty if ready.

    Args:
        view: the model that would be served.
        stale_limit_s: how long the store may have been silent.
        missing: why the group has given no partitions (`shared.membership`).
    """
    if not view.ready:
        return [f"the model is not whole yet: {view.error or 'still being read'}"]
    reasons = []
    if view.age_s > stale_limit_s:
        silent = f"the model is {view.age_s:.0f} s old, more than {stale_limit_s:g} s"
        reasons.append(f"{silent}: {view.error or 'the store does not answer'}")
    return [*reasons, *missing]


def api_not_ready(resolver: Publishing, gate: Entrance) -> list[str]:
    """Why the API should get no requests, whatever its model: the same wherever one asks."""
    reasons = [resolver.error] if resolver.error else []
    return [*reasons, "the server is shutting down"] if gate.draining else reasons


def without_addresses(reason: str) -> str:
    """A reason for those outside, who need not know where store and broker are."""
    return _ADDRESS.sub("", reason).replace("::", ":")
