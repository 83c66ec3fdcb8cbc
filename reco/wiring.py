"""The composition root: addresses and settings in, connected adapters out."""

import gc
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from datetime import UTC, datetime
from types import FrameType
from typing import Final

import click
from threadpoolctl import threadpool_limits

from reco import logs
from reco.options import kafka_settings
from reco.replica import Replica
from server.delivery import AT_LEAST_ONCE, EXACTLY_ONCE, AtLeastOnce, Delivery, ExactlyOnce
from shared.events import OUTCOMES
from shared.kafka import KafkaCluster
from shared.kafka_connection import BadSetting, settings_from
from shared.ports import Source, StoreRefuses, StoreUnavailable
from shared.redis_connection import BadAddress
from shared.redis_presence import RedisBoard
from shared.redis_store import RedisStore
from shared.settings import PARTITIONS
from shared.tracing import Trace, tracing, untraced

UNTIL_EOF: Final = "RECO_UNTIL_EOF"
_RETRY_S: Final = 0.2
_OTLP: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def one_blas_thread() -> None:
    """Keep matrix products on the calling thread.

    The products here are small; spread over threads they take two to three times as long
    (`make bench`), and every process would bring a pool of its own.
    """
    threadpool_limits(1, user_api="blas")


def keep_what_is_there() -> None:
    """Spare what was imported and set up the collections to come: a whole one takes 40 ms.

    All that time nobody is answered, and nothing of it would be collected.
    """
    gc.collect()
    gc.freeze()


def utc_now() -> datetime:
    """The time of events."""
    return datetime.now(UTC)


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


def open_store(redis: str, model: str, patience_s: float) -> RedisStore:
    """Connect to Redis.

    Raises:
        StoreUnavailable: nobody answered within `patience_s`.
        StoreRefuses: someone did, and waiting will not make it let us in.
        click.UsageError: the URL is none.
    """
    store = store_at(redis, model)
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            store.check()
            return store
        except StoreRefuses:
            raise
        except StoreUnavailable as error:
            if time.monotonic() >= deadline_s:
                raise StoreUnavailable(f"{error} (tried for {patience_s:g} s)") from error
            time.sleep(_RETRY_S)


def open_delivery(cluster: KafkaCluster, guarantee: str | None, group: str) -> Delivery:
    """How a server's batches leave: as asked for, else as well as the broker can.

    Raises:
        click.UsageError: exactly once is asked for of a broker that can't.
    """
    if guarantee == EXACTLY_ONCE and cluster.embedded:
        raise click.UsageError(
            f"{cluster.describe()} has no transactions: give --delivery {AT_LEAST_ONCE}, or the "
            "address of a real broker"
        )
    if guarantee == AT_LEAST_ONCE or cluster.embedded:
        return AtLeastOnce(cluster.producer())
    replica = Replica(group)  # held as long as the delivery is
    return ExactlyOnce(cluster.transactional_producer(replica.name), replica.release)


def open_trace(service: str, name: str, *, starts: bool = False) -> Trace:
    """How a service leaves traces: where OTEL_EXPORTER_OTLP_ENDPOINT says, else not at all.

    Args:
        service: server, trainer or producer.
        name: of its spans.
        starts: whether what came in without a trace starts one.

    Raises:
        click.UsageError: traces are asked for, and the extra `otel` is not installed.
    """
    if not any(os.environ.get(endpoint) for endpoint in _OTLP):
        return untraced
    try:
        from shared.otel import exporting
    except ImportError as error:
        raise click.UsageError(
            f"{_OTLP[0]} is set, but OpenTelemetry is not installed: install livereco[otel], or "
            "unset it"
        ) from error
    return tracing(exporting(service), name, starts=starts)


def _no_address(error: BadAddress) -> click.UsageError:
    return click.UsageError(f"--redis is {error}; give an address like redis://host:6379")


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; a second one ends the process as usual.

    A process whose parent put `UNTIL_EOF` into its environment also stops when its standard input
    closes: then the parent is gone, however it ended.
    """
    stop = threading.Event()
    if os.environ.get(UNTIL_EOF):
        threading.Thread(target=_await_eof, args=[stop], daemon=True).start()

    def handle(signum: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(signum, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def _await_eof(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def process_name() -> str:
    """A name for this process that no other has: host, pid, and when."""
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"


def run_name() -> str:
    """A short name for a run of visits that no other has: when, and by chance."""
    return f"{utc_now():%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def say(text: str, level: int = logging.INFO) -> None:
    """One line for people, on standard error; a record of the log where that is JSON."""
    if logs.structured():
        logs.record(text, level)
    else:
        click.echo(text, err=True)


def store_at(redis: str, model: str) -> RedisStore:
    """The store, whether it answers or not.

    Raises:
        click.UsageError: the URL is none.
    """
    try:
        return RedisStore(redis, model)
    except BadAddress as error:
        raise _no_address(error) from error


def open_board(redis: str, model: str) -> RedisBoard:
    """Where processes say that they are there; connects when it is first used.

    Raises:
        click.UsageError: the URL is none.
    """
    try:
        return RedisBoard(redis, model)
    except BadAddress as error:
        raise _no_address(error) from error
