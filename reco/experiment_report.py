"""What an experiment has shown so far, from decisions and their outcomes. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from shared.confidence import ALPHA, Apart, Count, compared
from shared.events import Decision, Outcome


class Possible(NamedTuple):
    """Click probabilities of a visit by the hidden model: of its slate, a random and the best."""

    shown: float
    random: float
    best: float


class VariantReport(msgspec.Struct, frozen=True):
    """One variant, beside the control."""

    variant: str
    parameters: dict[str, float]
    visits: int
    """With a known outcome."""
    clicks: int
    click_rate: float | None
    uplift_share: float | None
    """Of the possible uplift over random slates, where the hidden model is known."""
    difference: float | None
    """Click rate minus the control's; None for the control itself."""
    difference_interval: tuple[float, float] | None
    """Confidence sequence: holds at whatever time one looks (`shared.confidence`)."""
    differs: bool
    """The interval does not contain 0."""


class ExperimentReport(msgspec.Struct, frozen=True):
    """All variants; the first is the control."""

    experiment: str | None
    confidence: float
    """Of all intervals together."""
    open_decisions: int
    """Decisions without an outcome yet."""
    variants: list[VariantReport]


def report(
    decisions: Iterable[Decision],
    outcomes: Iterable[Outcome],
    experiment: str | None = None,
    control: str | None = None,
    possible: Mapping[str, Possible] | None = None,
) -> ExperimentReport:
    """Compare variants; where decisions name none, their policies.

    Args:
        decisions: of any experiment; one that stands there twice counts once.
        outcomes: of these decisions.
        experiment: which; None is the one with the latest decision.
        control: whom to compare with; None is the first by name.
        possible: by visit_id, where the hidden model is known.

    Raises:
        ValueError: there is no such control.
    """
    unique = {decision.decision_id: decision for decision in decisions}
    latest = max(unique.values(), key=lambda decision: decision.decided_at, default=None)
    experiment = experiment or (latest.experiment if latest else None)
    clicked: dict[str, bool] = {}
    for outcome in outcomes:
        key = outcome.decision_id
        clicked[key] = clicked.get(key, False) or outcome.reward > 0.0
    groups: dict[str, list[Decision]] = {}
    open_decisions = 0
    for key, decision in unique.items():
        if decision.experiment != experiment:
            continue
        if key in clicked:
            groups.setdefault(decision.variant or decision.policy, []).append(decision)
        else:
            open_decisions += 1
    if control is not None and control not in groups:
        raise ValueError(f"no variant {control!r} with outcomes: there are {', '.join(groups)}")
    names = sorted(groups, key=lambda name: (name != control, name))
    clicks = {name: sum(clicked[d.decision_id] for d in groups[name]) for name in names}
    counts = {name: Count(len(groups[name]), clicks[name]) for name in names}
    apart = compared(counts, names[0]) if names else {}
    variants = [
        _variant(name, groups[name], counts[name], apart[name], possible or {}) for name in names
    ]
    return ExperimentReport(experiment, 1.0 - ALPHA, open_decisions, variants)


def _variant(
    name: str,
    decisions: list[Decision],
    count: Count,
    apart: Apart | None,
    possible: Mapping[str, Possible],
) -> VariantReport:
    [(parameters, _)] = Counter(
        tuple(sorted(decision.parameters.items())) for decision in decisions
    ).most_common(1)
    return VariantReport(
        name,
        dict(parameters),
        count.visits,
        int(count.reward),
        count.reward / count.visits,
        _uplift_share([possible[d.visit_id] for d in decisions if d.visit_id in possible]),
        apart.difference if apart else None,
        (apart.low, apart.high) if apart else None,
        apart is not None and not apart.low <= 0.0 <= apart.high,
    )


def _uplift_share(found: list[Possible]) -> float | None:
    if not found:
        return None
    shown, random, best = (sum(column) for column in zip(*found, strict=True))
    return (shown - random) / (best - random) if best > random else None
