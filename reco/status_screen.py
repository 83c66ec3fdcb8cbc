"""What `reco status` shows: one screen of tables."""

from collections.abc import Sequence
from typing import Final

from rich.columns import Columns
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from reco.experiment_table import table
from reco.status import Status
from reco.terminal import printable
from shared.events import OUTCOMES, VISITS
from shared.presence import Presence

MOST_REASONS: Final = 8


def screen(status: Status) -> Group:
    """All of it, from the verdict down to each process."""
    brokers = ", ".join(f"{broker.id} at {broker.address}" for broker in status.brokers)
    head = Text("healthy" if status.healthy else "NOT HEALTHY", "bold green")
    if not status.healthy:
        reasons = (f"  {printable(why)}" for why in _first(status.reasons))
        head = Text("\n".join(["NOT HEALTHY", *reasons]))
        head.stylize("bold red")
    # Marks of transactions take up offsets, too.
    most = status.dead_letters.records
    letters = f"at most {most:,}" if most else "none"
    return Group(
        head,
        Text(printable(f"brokers: {brokers}    dead letters: {letters}")),
        _topics(status),
        Columns([_partitions(status, VISITS), _partitions(status, OUTCOMES)]),
        _processes([*status.servers, *status.trainers, *status.producers]),
        *(table(status.experiment) if status.experiment else ()),
    )


def _first(reasons: Sequence[str]) -> list[str]:
    """As many as leave room for the rest of the screen."""
    more = len(reasons) - MOST_REASONS
    if more <= 0:
        return [*reasons]
    return [*reasons[:MOST_REASONS], f"… and {more} more: --json tells all"]


def _topics(status: Status) -> Table:
    table = Table("topic", "partitions", "offsets", "rate /s")
    for row in status.topics:
        table.add_row(row.topic, str(row.partitions), f"{row.records:,}", f"{row.rate:,.0f}")
    return table


def _partitions(status: Status, topic: str) -> Table:
    table = Table(topic, "owner", "offset", "lag", "rate /s")
    for row in status.partitions:
        if row.topic != topic:
            continue
        offset = "-" if row.offset is None else f"{row.offset:,}"
        lag = "-" if row.lag is None else f"{row.lag:,}"
        cells = (str(row.partition), printable(row.owner), offset, lag)
        table.add_row(*(Text(cell) for cell in cells), f"{row.rate:,.1f}")
    return table


def _processes(present: Sequence[Presence]) -> Table:
    """Fits 80 columns with the names that containers have; on fewer, words and names are broken."""
    titles = ("process", "partitions", "lag", "rate /s", "view age", "ready")
    table = Table(*(Column(title, overflow="fold") for title in titles), padding=0)
    for each in present:
        age = "-" if each.view_age_s is None else f"{each.view_age_s:.2f} s"
        stale = " STALE" if each.stale else ""
        how = ", ".join(part for part in (each.policy, each.delivery) if part)
        cells = (
            "\n  ".join(map(printable, filter(None, (f"{each.kind} {each.name}", how)))),
            str(len(each.partitions)),
            "-" if each.lag is None else f"{each.lag:,}",
            f"{each.rate_per_s:,.0f}",
            f"{age}{stale}",
            "no" if each.not_ready else "yes",  # why not stands above
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table
