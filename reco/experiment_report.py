"""What an experiment has shown so far, from decisions and their outcomes. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

import msgspec

from reco.settled import DELETED, EARLY, OPEN, left_out, moment
from shared.confidence import ALPHA, Apart, Count, Tally, compared, enough_users
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
    """Whose reaction would be known by now, whatever it was (`reco.settled`)."""
    users: int
    """Who made them; where none was named, a visit is a user of its own."""
    clicks: int
    click_rate: float | None
    uplift_share: float | None
    """Of the possible uplift over random slates, where the hidden model is known."""
    difference: float | None
    """Click rate minus the control's; None for the control itself."""
    difference_interval: tuple[float, float] | None
    """Confidence sequence: holds at whatever time one looks (`shared.confidence`). None for the
    control itself, and where no experiment divided the users."""
    differs: bool
    """The interval does not contain 0."""
    enough_users: bool
    """False: too few for any interval but (-1, 1)."""


class ExperimentReport(msgspec.Struct, frozen=True):
    """All variants; the first is the control."""

    experiment: str | None
    """None: nothing divided the users, so policies are side by side that may have served others,
    at another time."""
    confidence: float
    """Of all intervals together."""
    open_decisions: int
    """Decisions without an outcome yet."""
    early_decisions: int
    """Decisions left out since others of the same time may still be open (`reco.settled`)."""
    deleted_decisions: int
    """Decisions left out since some of their outcomes may have been deleted (`reco.settled`)."""
    variants: list[VariantReport]


def report(
    decisions: Iterable[Decision],
    outcomes: Iterable[Outcome],
    experiment: str | None = None,
    control: str | None = None,
    possible: Mapping[str, Possible] | None = None,
    starts: Mapping[int, int] | None = None,
) -> ExperimentReport:
    """Compare variants; where decisions name none, their policies.

    Args:
        decisions: of any experiment; one that stands there twice counts once.
        outcomes: of these decisions.
        experiment: which; None is the one with the latest decision.
        control: whom to compare with; None is the first by name.
        possible: by visit_id, where the hidden model is known.
        starts: first offset that the outcomes' log still holds, by partition; None if it is whole.

    Raises:
        ValueError: there is no such control.
    """
    unique = {decision.decision_id: decision for decision in decisions}
    latest = max(unique.values(), key=lambda made: moment(made.decided_at), default=None)
    experiment = experiment or (latest.experiment if latest else None)
    outcomes = list(outcomes)
    clicked = {outcome.decision_id for outcome in outcomes if outcome.reward > 0.0}
    reasons = left_out(unique.values(), outcomes, starts)
    groups: dict[str, list[Decision]] = {}
    without = Counter[str]()
    for key, decision in unique.items():
        if decision.experiment != experiment:
            continue
        if key in reasons:
            without[reasons[key]] += 1
        else:
            groups.setdefault(decision.variant or decision.policy, []).append(decision)
    if control is not None and control not in groups:
        there = ", ".join(groups) or "none yet"
        raise ValueError(f"no variant {control!r} with outcomes: there are {there}")
    names = sorted(groups, key=lambda name: (name != control, name))
    counts = {name: _count(groups[name], clicked) for name in names}
    apart = compared(counts, names[0]) if names else {}
    variants = [
        _variant(name, groups[name], counts[name], apart[name], possible or {}) for name in names
    ]
    counted = without[OPEN], without[EARLY], without[DELETED]
    return ExperimentReport(experiment, 1.0 - ALPHA, *counted, variants)


def _count(decisions: list[Decision], clicked: Set[str]) -> Count:
    tally = Tally()
    for decision in decisions:
        tally.add(decision.visitor, float(decision.decision_id in clicked))
    return tally.count


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
    divided = decisions[0].experiment is not None
    interval = (apart.low, apart.high) if apart and divided else None
    return VariantReport(
        name,
        dict(parameters),
        count.visits,
        len({decision.visitor for decision in decisions}),
        int(count.reward),
        count.rate,
        _uplift_share([possible[d.visit_id] for d in decisions if d.visit_id in possible]),
        apart.difference if apart else None,
        interval,
        interval is not None and not interval[0] <= 0.0 <= interval[1],
        enough_users(count),
    )


def _uplift_share(found: list[Possible]) -> float | None:
    if not found:
        return None
    shown, random, best = (sum(column) for column in zip(*found, strict=True))
    return (shown - random) / (best - random) if best > random else None
