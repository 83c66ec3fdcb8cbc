"""`reco train`: the trainer as a process."""

import time
from contextlib import closing
from pathlib import Path
from threading import Event

import click
import msgspec

from reco import options
from reco.brokers import open_cluster, outcomes_log
from reco.catalogue_feed import open_products
from reco.data import load_or_prepare
from reco.logs import say
from reco.observed import observed
from reco.observed_trainer import ObservedTrainer, wrote
from reco.process import keep_freed_memory, process_name, stop_on_signals
from reco.stores import open_board, open_store
from reco.traces import open_trace
from shared.events import OUTCOMES
from shared.health import Heartbeat
from shared.kafka_admin import KafkaAdmin
from shared.metrics import TrainerMetrics
from shared.ports import BrokerRefuses, BrokerUnavailable
from shared.settings import TRAINER_GROUP
from shared.snapshots import SnapshotFolder
from trainer.apply import DEDUPE_WINDOW, Rules
from trainer.counts import Counts
from trainer.loop import Trainer

POLL_S = 0.2
REPORT_EVERY_S = 1.0


@click.command()
@options.kafka
@options.redis
@options.model
@options.data
@options.gamma
@click.option(
    "--static",
    metavar="I/N",
    callback=options.share_of,
    help="Serve every N-th partition from I on, without a group: 0/2 and 1/2 are two trainers.",
)
@click.option(
    "--snapshots",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to look in for a snapshot when the state in the store is missing.",
)
@options.dedupe_window(DEDUPE_WINDOW)
@click.option("--json", "as_json", is_flag=True, help="Report as lines of JSON on standard output.")
@options.observed
@options.patience
def command(
    kafka: str,
    redis: str,
    model: str,
    data: Path,
    gamma: float,
    static: tuple[int, int] | None,
    snapshots: Path | None,
    dedupe_window: int,
    as_json: bool,
    metrics_at: options.Address | None,
    patience_s: float,
) -> None:
    """Fold click outcomes into the model's state in Redis, exactly once.

    Start several: they share the partitions of the topic `outcomes`. It may be killed at any
    time. A partition whose state is missing and can't be rebuilt is refused and reported, and
    served as soon as that is mended.

    Example: reco train --kafka 127.0.0.1:9092 --redis redis://127.0.0.1:6379
    """
    keep_freed_memory()
    dataset = load_or_prepare(data)
    cluster = open_cluster(kafka, patience_s)
    store = open_store(redis, model, patience_s)
    source = outcomes_log(cluster)
    stop = stop_on_signals()  # until here a signal ends the process at once: it only waits
    metrics, name = TrainerMetrics(), process_name()
    config = dataset.config_of(gamma)
    group = f"{TRAINER_GROUP}-{model}"
    trainer = Trainer(
        consumer := cluster.consumer(OUTCOMES, group, reset="error", name=name),
        cluster.producer(),
        store,
        lambda: cluster.source(OUTCOMES),
        Rules.of(
            config,
            dataset.arms,
            source.partitions,
            dedupe_window,
            open_products(cluster, dataset),
        ),
        writer=name,
        clock=time.monotonic,
        recover=SnapshotFolder(snapshots, model, config).newest,
        wrote=wrote(metrics, open_trace("trainer", "learn")),
    )
    say(f"training {model!r} from {cluster.describe()} into {store.describe()}")
    if static:
        trainer.assigned(range(static[0], source.partitions, static[1]))
    else:
        consumer.subscribe(trainer)
    service = ObservedTrainer(metrics, trainer, KafkaAdmin(cluster))
    with closing(consumer):
        board, heartbeat = open_board(redis, model), Heartbeat(time.monotonic)
        with observed(service, name, metrics_at, board, heartbeat.not_alive):
            _run(trainer, stop, as_json, heartbeat)
        trainer.commit()
    say(f"stopped: {_sentence(trainer.counts)}")


def _run(trainer: Trainer, stop: Event, as_json: bool, heartbeat: Heartbeat) -> None:
    report_at_s, told = time.monotonic() + REPORT_EVERY_S, ""
    while not stop.is_set():
        heartbeat.beat()
        try:
            trainer.run_once(POLL_S)
        except BrokerRefuses:
            raise
        except BrokerUnavailable as error:
            say(f"{error}; trying again")
            stop.wait(REPORT_EVERY_S)
        if time.monotonic() >= report_at_s:
            report_at_s = time.monotonic() + REPORT_EVERY_S
            told = _report(trainer, as_json, told)
    _report(trainer, as_json, told)


def _report(trainer: Trainer, as_json: bool, told: str) -> str:
    if as_json:
        report = {
            "ready": trainer.ready,
            "positions": trainer.positions,
            **msgspec.to_builtins(trainer.counts),
        }
        click.echo(msgspec.json.encode(report))
        return told
    now = _sentence(trainer.counts)
    if now != told:
        say(now)
    return now


def _sentence(counts: Counts) -> str:
    text = (
        f"applied {counts.applied:,}, duplicates {counts.duplicates:,}, dead letters "
        f"{counts.dead_letters:,}, writes {counts.writes:,}, conflicts {counts.conflicts:,}"
    )
    reasons = sorted(set(counts.waiting.values()))
    return f"{text}; NOT SERVED: {'; '.join(reasons)}" if reasons else text
