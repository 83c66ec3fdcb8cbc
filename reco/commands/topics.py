"""`reco topics`: make the topics, list them, and watch one."""

import time
from datetime import datetime

import click
import msgspec
from rich.console import Console
from rich.table import Table

from reco import options
from reco.brokers import open_cluster
from reco.number import Number
from reco.process import stop_on_signals
from reco.terminal import printable
from shared.events import (
    DEAD_LETTERS,
    DECISIONS,
    OUTCOMES,
    PRODUCTS,
    UNDECODABLE,
    VISITS,
    decode_decision,
    decode_outcome,
    decode_product_change,
    decode_visit,
)
from shared.kafka import KafkaCluster
from shared.kafka_admin import KafkaAdmin
from shared.ports import EventConsumer, Record
from shared.settings import COMPACTED, PARTITIONS

POLL_RECORDS = 500
POLL_S = 0.2
NO_TIME = "--:--:--"


@click.group()
def command() -> None:
    """Make the topics, list them, and watch what passes through one.

    Example: reco topics watch outcomes
    """


@command.command("create")
@options.kafka
@click.option(
    "--replication",
    type=click.IntRange(min=1),
    help="On how many brokers each record of a new topic lies. [default: the broker's own]",
)
@options.patience
def create_command(kafka: str, replication: int | None, patience_s: float) -> None:
    """Make the topics that are not there yet; a topic that is there is left as it is.

    Example: reco topics create --kafka 127.0.0.1:9092 --replication 3
    """
    cluster = open_cluster(kafka, patience_s)
    there = cluster.topics()
    missing = {name: count for name, count in PARTITIONS.items() if name not in there}
    if missing:
        cluster.create_topics(missing, COMPACTED, replication)
    for name, wanted in PARTITIONS.items():
        count = there.get(name)
        if count is None:
            click.echo(f"made {name} with {wanted} partitions")
        elif count == wanted:
            click.echo(f"{name} is there with {count} partitions")
    for name, wanted in PARTITIONS.items():
        if there.get(name, wanted) != wanted:
            raise click.ClickException(
                f"the topic {name} has {there[name]} partitions instead of {wanted}, so keys would "
                "lie elsewhere than expected: delete it, or use another cluster"
            )
    admin = KafkaAdmin(cluster)
    for name in there.keys() & {*COMPACTED}:
        policy = admin.cleanup_policy(name)
        if policy is None:
            click.echo(f"whether {name} is compacted, as it has to be, this broker does not say")
        elif policy != "compact":
            raise click.ClickException(
                f"the topic {name} has cleanup.policy={policy}, so products that were added would "
                "be deleted after a while: set it to compact (kafka-configs --alter --entity-type "
                f"topics --entity-name {name} --add-config cleanup.policy=compact)"
            )


@command.command("list")
@options.kafka
@options.json_output("the list")
@options.patience
def list_command(kafka: str, json_file: str | None, patience_s: float) -> None:
    """List all topics with their partitions and how many offsets they hold.

    Marks of transactions take up offsets, too, so there may be fewer records than that.

    Example: reco topics list
    """
    cluster = open_cluster(kafka, patience_s)
    rows = []
    for name, count in sorted(cluster.topics().items()):
        consumer = cluster.consumer(name)
        held = [consumer.watermarks(partition) for partition in range(count)]
        consumer.close()
        records = sum(each.end - each.start for each in held)
        trimmed = sum(each.start for each in held)
        rows.append({"topic": name, "partitions": count, "records": records, "trimmed": trimmed})
    options.write_json(rows, json_file)
    if json_file != "-":
        table = Table("topic", "partitions", "offsets", "trimmed")
        for row in rows:
            table.add_row(str(row["topic"]), *(f"{row[c]:,}" for c in list(row)[1:]))
        Console().print(table)


@command.command("watch")
@click.argument("topic")
@options.kafka
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record still held.")
@click.option("--max", "most", type=click.IntRange(min=1), help="End after so many records.")
@click.option("--timeout-s", type=Number(min=0), help="End after so long without one.")
@click.option("--json", "as_json", is_flag=True, help="Print each record as a line of JSON.")
@options.patience
def watch_command(
    topic: str,
    kafka: str,
    from_beginning: bool,
    most: int | None,
    timeout_s: float | None,
    as_json: bool,
    patience_s: float,
) -> None:
    """Print one readable line for each record that arrives; Ctrl-C ends it.

    Example: reco topics watch outcomes --from-beginning --max 10
    """
    consumer = _positioned(open_cluster(kafka, patience_s), topic, from_beginning)
    stop = stop_on_signals()  # until here a signal ends the process at once: it only waits
    left = most if most is not None else -1
    last_s = time.monotonic()
    while left != 0 and not stop.is_set():
        records = consumer.poll(POLL_RECORDS if left < 0 else min(POLL_RECORDS, left), POLL_S)
        for record in records:
            click.echo(json_line(record) if as_json else line(record))
        left -= len(records) if left > 0 else 0
        if records:
            last_s = time.monotonic()
        elif timeout_s is not None and time.monotonic() - last_s >= timeout_s:
            break
    consumer.close()


def line(record: Record) -> str:
    """A record in one line: by its type where it is known and intact, else as it is."""
    where = f"{record.topic}/{record.partition}@{record.offset}"
    describe = _DESCRIBE.get(record.topic, _raw)
    try:
        text = describe(record)
    except (*UNDECODABLE, KeyError):
        text = _raw(record)
    return f"{where:<18} {printable(text)}"


def _positioned(cluster: KafkaCluster, topic: str, from_beginning: bool) -> EventConsumer:
    topics = cluster.topics()
    if topic not in topics:
        raise click.UsageError(
            f"there is no topic {topic!r} at {cluster.address}; there are: "
            f"{', '.join(sorted(topics)) or 'none'}"
        )
    consumer = cluster.consumer(topic)
    partitions = range(topics[topic])
    ends = {p: None if from_beginning else consumer.watermarks(p).end for p in partitions}
    consumer.assign(ends)
    return consumer


def _visit(record: Record) -> str:
    visit = decode_visit(record.value or b"")
    context = visit.context
    return (
        f"{visit.visit_id}: user {visit.user_id:04d}, {context.age} yo {context.gender}, "
        f"{context.traffic_source}, {context.occurred_at:%a %H:%M}"
    )


def _decision(record: Record) -> str:
    decision = decode_decision(record.value or b"")
    slate = ", ".join(
        f"{item.product_id} ({item.mean:.2f}+{item.bonus:.2f})" for item in decision.slate
    )
    learned = sum(decision.view)
    stale = " STALE" if decision.stale else ""
    return f"{decision.decision_id}: {decision.policy} at {learned:,} outcomes{stale}: {slate}"


def _outcome(record: Record) -> str:
    outcome = decode_outcome(record.value or b"")
    mark = "✅" if outcome.reward > 0 else "❌"
    return f"{outcome.outcome_id}: product {outcome.product_id} at rank {outcome.rank} {mark}"


def _product_change(record: Record) -> str:
    change = decode_product_change(record.value or b"")
    state = "retired" if change.retired else f"ranked, outcomes from {change.from_offset} on"
    state = "being added" if change.from_offset is None else state
    return f"product {change.product_id} {change.name}, {change.price:.2f}: {state}"


def _dead_letter(record: Record) -> str:
    headers = {name: value.decode() for name, value in record.headers}
    origin = f"{headers['topic']}/{headers['partition']}@{headers['offset']}"
    return f"{origin}: {headers['reason']}: {shortened(record.value)}"


def _raw(record: Record) -> str:
    return f"{_clock(record.timestamp_ms)} {shortened(record.key)}: {shortened(record.value)}"


def _clock(timestamp_ms: int) -> str:
    """The time of day here; a client may have given any number, or none (-1)."""
    try:
        at = datetime.fromtimestamp(timestamp_ms / 1e3).astimezone()
    except (ValueError, OverflowError, OSError):
        return NO_TIME
    return NO_TIME if timestamp_ms < 0 else f"{at:%H:%M:%S}"


def shortened(value: bytes | None, most: int = 120) -> str:
    """Bytes as text that is safe to print, cut off after `most` signs."""
    if value is None:
        return "null"
    text = printable(value.decode(errors="backslashreplace"))
    return text if len(text) <= most else f"{text[:most]}…"


def json_line(record: Record) -> str:
    """A record in one line of JSON, its value as text where that is none."""
    try:
        return _with_value(record, msgspec.json.decode(record.value or b"null"))
    except UNDECODABLE:
        return _with_value(record, shortened(record.value, most=10_000))


def _with_value(record: Record, value: object) -> str:
    return msgspec.json.encode(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "key": None if record.key is None else shortened(record.key),
            "headers": {name: shortened(text) for name, text in record.headers},
            "value": value,
        }
    ).decode()


_DESCRIBE = {
    VISITS: _visit,
    DECISIONS: _decision,
    OUTCOMES: _outcome,
    DEAD_LETTERS: _dead_letter,
    PRODUCTS: _product_change,
}
