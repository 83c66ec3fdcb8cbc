"""What an experiment has shown, read from the log."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from reco.experiment_report import ExperimentReport, Possible, report
from reco.uplift import ExpectedClicks
from reco.whole_topic import read_topic
from shared.catalogue import DataSet
from shared.events import (
    DECISIONS,
    OUTCOMES,
    VISITS,
    Decision,
    Visit,
    decode_decision,
    decode_outcome,
    decode_visit,
)
from shared.ground_truth import GroundTruth
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
    outcomes = _events(cluster, OUTCOMES, decode_outcome)
    told = {}
    if dataset:
        visits = {visit.visit_id: visit for visit in _events(cluster, VISITS, decode_visit)}
        told = possible(dataset, seed, decisions, visits)
    return report(decisions, outcomes, experiment, control, told)


def possible(
    dataset: DataSet, seed: int, decisions: list[Decision], visits: dict[str, Visit]
) -> dict[str, Possible]:
    """What the simulated shoppers' hidden model says of each decision's visit."""
    # Of products that were added later the prepared data know nothing: their visits are left out.
    truth = GroundTruth(dataset.products, dataset.encoder, seed)
    column = {product: number for number, product in enumerate(dataset.arms)}
    result = {}
    for decision in decisions:
        visit = visits.get(decision.visit_id)
        slate = [column[i.product_id] for i in decision.slate if i.product_id in column]
        if visit is None or len(slate) < len(decision.slate):
            continue
        clicks = ExpectedClicks(len(slate))
        clicks.add(truth.probabilities, truth.kinds([visit.context]), [slate])
        result[decision.visit_id] = Possible(clicks.shown, clicks.random, clicks.best)
    return result


def _events(cluster: KafkaCluster, topic: str, decode: Callable[[bytes], _T]) -> Iterator[_T]:
    for record in read_topic(cluster, topic):
        try:
            yield decode(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # no record of ours: the trainer counts it among its dead letters
