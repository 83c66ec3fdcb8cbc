"""`reco dead-letters`: look at what was put aside, and send it back once its cause is mended."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from reco import options
from reco.brokers import open_cluster
from reco.commands.topics import shortened
from reco.dead_letters import Choice, DeadLetters, Letter, Report, TooScattered
from shared.events import DEAD_LETTERS
from shared.kafka import KafkaCluster
from shared.kafka_admin import KafkaAdmin

PLACES: Final = ("letter", "source")
LEAST_FOR_WORDS: Final = 40
"""Columns of the screen, for the four that hold words, with their borders."""

_reason = click.option(
    "--reason", default="", metavar="TEXT", help="Only those whose reason contains this."
)
_topic = click.option(
    "--topic", default="", metavar="NAME", help="Only those whose record came from this topic."
)
_most = click.option("--max", "most", type=click.IntRange(1, sys.maxsize), help="So many at most.")


@click.group()
def command() -> None:
    """Look at the records that could not be used, and send them back where they came from.

    Example: reco dead-letters list --reason encoder
    """


@command.command("list")
@options.kafka
@options.model
@_reason
@_topic
@_most
@options.json_output("the letters")
@options.patience
def list_command(
    kafka: str,
    model: str,
    reason: str,
    topic: str,
    most: int | None,
    json_file: str | None,
    patience_s: float,
) -> None:
    """Show the dead letters: where each came from, why, and whether it was sent back.

    Example: reco dead-letters list --topic outcomes --max 20
    """
    with _opened(open_cluster(kafka, patience_s), model) as letters:
        found = list(islice(letters.letters(Choice(reason, topic)), most))
    options.write_json([_as_json(letter) for letter in found], json_file)
    if json_file == "-":
        return
    if not found:
        click.echo("no dead letters")
        return
    console = Console()
    console.print(table_of(found, console.width))


def table_of(letters: Sequence[Letter], width: int) -> Table:
    """A row for each letter, on a screen of so many columns; what is too long for it is broken."""
    rows = [_as_json(letter) for letter in letters]
    longest = (max((len(str(row[name])) for row in rows), default=0) for name in PLACES)
    # Where there is room for the words beside it, it is not broken where a letter lies.
    whole = width - sum(longest) >= LEAST_FOR_WORDS
    places = (Column(title, overflow="fold", no_wrap=whole) for title in ("letter", "came from"))
    words = (Column(title, overflow="fold") for title in ("reason", "key", "value", "sent back"))
    table = Table(*places, *words, padding=0)
    for letter, row in zip(letters, rows, strict=True):
        reason = f"{letter.reason} ({letter.cut:,} bytes)" if letter.cut else letter.reason
        cells = (*(row[name] for name in PLACES), reason, row["key"], _value(letter, 40))
        # As `Text`: brackets in a record are no markup.
        table.add_row(*(Text(shortened(str(cell).encode())) for cell in cells), _yes(letter))
    return table


@command.command("replay")
@options.kafka
@options.model
@_reason
@_topic
@_most
@click.option("--again", is_flag=True, help="Those too that were sent back before.")
@click.option("--dry-run", is_flag=True, help="Only say how many it would be.")
@options.json_output("what was done")
@options.patience
def replay_command(
    kafka: str,
    model: str,
    reason: str,
    topic: str,
    most: int | None,
    again: bool,
    dry_run: bool,
    json_file: str | None,
    patience_s: float,
) -> None:
    """Send dead letters back to their topics: the original bytes with the original key.

    Each is sent back once, unless --again. What still can't be used comes back as a new letter.

    Example: reco dead-letters replay --reason "unknown product" --dry-run
    """
    cluster = open_cluster(kafka, patience_s)
    producer = cluster.producer()
    with _opened(cluster, model) as letters:
        try:
            report = letters.replay(
                Choice(reason, topic),
                producer,
                list(cluster.topics()),
                most=most,
                again=again,
                dry_run=dry_run,
            )
        except TooScattered as error:
            raise click.ClickException(str(error)) from error
        finally:
            producer.close()
    options.write_json(report, json_file)
    if json_file != "-":
        click.echo(_sentence(report, dry_run))


@contextmanager
def _opened(cluster: KafkaCluster, model: str) -> Iterator[DeadLetters]:
    partitions = cluster.topics().get(DEAD_LETTERS)
    if partitions is None:
        raise click.UsageError(
            f"there is no topic {DEAD_LETTERS} at {cluster.address}: make it with "
            "`reco topics create`"
        )
    consumer = cluster.consumer(DEAD_LETTERS)
    try:
        group = f"reco-dead-letters-{model}"
        try:
            letters = DeadLetters(consumer, KafkaAdmin(cluster), group, partitions)
        except ValueError as error:
            raise click.ClickException(
                f"what was sent back is noted in the group {group}, and its note can't be read: "
                "delete that group; all letters then count as not sent back"
            ) from error
        yield letters
    finally:
        consumer.close()


def _as_json(letter: Letter) -> dict[str, str | int | bool | None]:
    record = letter.record
    known = letter.topic and letter.offset >= 0
    return {
        "letter": f"{record.topic}/{record.partition}@{record.offset}",
        "source": f"{letter.topic}/{letter.partition}@{letter.offset}" if known else "unknown",
        "topic": letter.topic,
        "reason": letter.reason,
        "key": None if record.key is None else shortened(record.key),
        "value": _value(letter, 10_000),
        "replayed": letter.replayed,
        "cut_from_bytes": letter.cut or None,
    }


def _value(letter: Letter, most: int) -> str:
    return shortened(letter.record.value, most)


def _yes(letter: Letter) -> str:
    return "yes" if letter.replayed else ""


def _sentence(report: Report, dry_run: bool) -> str:
    where = ", ".join(f"{count:,} to {topic}" for topic, count in report.by_topic.items())
    letters = "letter" if report.replayed == 1 else "letters"
    text = f"{'would send' if dry_run else 'sent'} {report.replayed:,} {letters} back"
    text += f" ({where})" if where else ""
    if report.already_replayed:
        text += f"; {report.already_replayed:,} were sent back before (--again sends them again)"
    if report.without_source:
        text += f"; {report.without_source:,} do not say from which topic they came"
    if report.without_topic:
        text += (
            f"; {report.without_topic:,} came from a topic that nothing can be sent back to: it is "
            "not there, or is that of the dead letters"
        )
    if report.cut:
        text += f"; {report.cut:,} were too large to be kept whole: they lie where they came from"
    return text
