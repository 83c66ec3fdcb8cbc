"""What an experiment has shown, read from the log."""

import functools
from collections.abc import Callable, Iterator
from typing import TypeVar

from reco.experiment_report import ExperimentReport, Possible, report
from reco.whole_topic import read_topic, starts_of
from shared.arm_statistics import Floats
from shared.catalogue import DataSet
from shared.events import (
    DECISIONS,
    OUTCOMES,
    UNDECODABLE,
    VISITS,
    Decision,
    Visit,
    decode_decision,
    decode_outcome,
    decode_visit,
)
from shared.ground_truth import (
    GroundTruth,
    best_click_probability,
    random_click_probability,
    slate_click_probability,
)
from shared.kafka import KafkaCluster

_T = TypeVar("_T")


def compared(
    cluster: KafkaCluster,
    dataset: DataSet | None,
    seed: int,
    experiment: str | None = None,
    control: str | None = None,
) -> ExperimentReport:
    """Read decisions and outcomes, and compare the variants.

    Args:
        cluster: where the log is.
        dataset: the simulation's, for the uplift; None where it is not known.
        seed: of its shoppers.
        experiment: which; None is the one with the latest decision.
        control: whom to compare with; None is the first by name.

    Raises:
        ValueError: there is no such control.
        BrokerUnavailable: no answer.
    """
    decisions = list(_events(cluster, DECISIONS, decode_decision))
    outcomes = list(_events(cluster, OUTCOMES, decode_outcome))
    starts = starts_of(cluster, OUTCOMES)  # afterwards, so that no deletion goes unnoticed
    told = {}
    if dataset:
        visits = {visit.visit_id: visit for visit in _events(cluster, VISITS, decode_visit)}
        told = possible(dataset, seed, decisions, visits)
    return report(decisions, outcomes, experiment, control, told, starts)


def possible(
    dataset: DataSet, seed: int, decisions: list[Decision], visits: dict[str, Visit]
) -> dict[str, Possible]:
    """What the simulated shoppers' hidden model says of each decision's visit."""
    # Of products that were added later the prepared data know nothing: their visits are left out.
    truth = GroundTruth(dataset.products, dataset.encoder, seed)
    P = truth.probabilities
    column = {product: number for number, product in enumerate(dataset.arms)}

    @functools.cache
    def bounds(length: int) -> tuple[Floats, Floats]:
        """What random and the best slates are worth, by kind of visit."""
        return random_click_probability(P, length), best_click_probability(P, length)

    result = {}
    for decision in decisions:
        visit = visits.get(decision.visit_id)
        slate = [column[i.product_id] for i in decision.slate if i.product_id in column]
        if visit is None or len(slate) < len(decision.slate):
            continue
        [kind] = truth.kinds([visit.context]).tolist()
        random, best = bounds(len(slate))
        shown = slate_click_probability(P[kind, slate])
        result[decision.visit_id] = Possible(shown, float(random[kind]), float(best[kind]))
    return result


def _events(cluster: KafkaCluster, topic: str, decode: Callable[[bytes], _T]) -> Iterator[_T]:
    for record in read_topic(cluster, topic):
        try:
            yield decode(record.value or b"")
        except UNDECODABLE:
            continue  # no record of ours: the trainer counts it among its dead letters
