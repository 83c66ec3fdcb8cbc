"""Kafka's address and settings in, connected adapters out."""

import click

from reco.options import kafka_settings
from reco.replica import Replica
from server.delivery import AT_LEAST_ONCE, EXACTLY_ONCE, AtLeastOnce, Delivery, ExactlyOnce
from shared.events import OUTCOMES
from shared.kafka import KafkaCluster
from shared.kafka_connection import BadSetting, settings_from
from shared.ports import Source
from shared.settings import PARTITIONS


def open_cluster(kafka: str, patience_s: float) -> KafkaCluster:
    """Connect to Kafka.

    Raises:
        BrokerUnavailable: nobody answered within `patience_s`.
        click.UsageError: librdkafka refuses a `KAFKA_*` setting.
    """
    try:
        return KafkaCluster(kafka, settings_from(kafka_settings()), patience_s)
    except BadSetting as error:
        raise click.UsageError(f"{error}; check --kafka and the KAFKA_* variables") from error


def outcomes_log(cluster: KafkaCluster) -> Source:
    """Identity of the outcomes log, which has to have its partition count.

    Raises:
        BrokerUnavailable: there is no such topic (yet).
        click.ClickException: with another count, products would lie elsewhere than expected.
    """
    source = cluster.source(OUTCOMES)
    if source.partitions != PARTITIONS[OUTCOMES]:
        raise click.ClickException(
            f"the topic {OUTCOMES} at {cluster.address} has {source.partitions} partitions instead "
            f"of {PARTITIONS[OUTCOMES]}: delete it and make it again with `reco topics create`"
        )
    return source


def open_delivery(cluster: KafkaCluster, guarantee: str | None, group: str) -> Delivery:
    """How a server's batches leave: as asked for, else as well as the broker can.

    Raises:
        click.UsageError: exactly once is asked for of a broker that can't, or there is no folder
            for the lock of the server's name.
    """
    if guarantee == EXACTLY_ONCE and cluster.embedded:
        raise click.UsageError(
            f"{cluster.describe()} has no transactions: give --delivery {AT_LEAST_ONCE}, or the "
            "address of a real broker"
        )
    if guarantee == AT_LEAST_ONCE or cluster.embedded:
        return AtLeastOnce(cluster.producer())
    try:
        replica = Replica(group)  # held as long as the delivery is
    except OSError as error:
        where = error.filename or "a lock file in the folder for temporary files"
        raise click.UsageError(
            f"can't lock {where} ({error.strerror}): set TMPDIR to a folder that can be written"
        ) from error
    return ExactlyOnce(cluster.transactional_producer(replica.name), replica.release)
