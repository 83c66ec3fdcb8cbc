"""The state in the store beside a replay of the log, for the tests that run the whole system."""

from collections.abc import Mapping

from reco.rebuild import Report, compare_all
from reco.state import read_states
from shared.catalogue import DataSet
from shared.events import OUTCOMES
from shared.kafka import KafkaCluster
from shared.ports import State, StateStore
from trainer.apply import Newcomers, Rules


def compared(
    cluster: KafkaCluster,
    store: StateStore,
    data: DataSet,
    *,
    bases: Mapping[int, State] | None = None,
    newcomers: Newcomers | None = None,
) -> Report:
    """Replay the log up to where the store is, and compare.

    Args:
        cluster: where the log is.
        store: where the state is.
        data: the products that it began with.
        bases: snapshots to start from, where the log no longer starts at 0.
        newcomers: who knows of products that were added later.
    """
    source = cluster.source(OUTCOMES)
    rules = Rules.of(data.config, data.arms, source.partitions, newcomers=newcomers)
    consumer = cluster.consumer(OUTCOMES, reset="error")
    states = read_states(store, range(source.partitions))
    report, _ = compare_all(consumer, rules, states, bases or {}, source)
    consumer.close()
    return report
