"""What a run found: judged, as a table on the screen, and as the page `docs/faults.md`."""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np
from rich.table import Table

from reco.rebuild import Report
from tests.chaos.naive_trainers import Damage
from tests.chaos.stage import Recovery
from tests.chaos.tally import Count

EXACTLY_ONCE: Final = "exactly-once"


class Quantiles(msgspec.Struct, frozen=True):
    """Seconds to recover."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Quantiles | None":
        """None without a sample."""
        if not seconds:
            return None
        p50, p99 = np.percentile(seconds, [50, 99]).tolist()
        return cls(round(p50, 3), round(p99, 3), round(max(seconds), 3))


class Result(msgspec.Struct, kw_only=True):
    """One kind of fault and how it stood afterwards."""

    name: str
    title: str
    times: int
    seconds: float = 0.0
    decided_s: Quantiles | None = None
    """Time to recover of the servers."""
    learned_s: Quantiles | None = None
    """Time to recover of the trainers."""
    visits: int = 0
    """All visits of the run so far; so for the next four."""
    missing: int = 0
    double: int = 0
    outcomes_double: int = 0
    outcomes: int = 0
    differing_bits: int = 0
    violations: list[str] = []
    naive: Damage | None = None
    """The naive trainers during this fault alone."""
    failure: str = ""
    """Why it did not recover, or what broke."""

    def recovered(self, recoveries: Sequence[Recovery]) -> None:
        """Take the times."""
        self.decided_s = Quantiles.of([each.decided_s for each in recoveries])
        self.learned_s = Quantiles.of([each.learned_s for each in recoveries])

    def counted(self, count: Count, report: Report) -> None:
        """Take the counts."""
        self.visits, self.missing, self.double = count.visits, count.missing, count.double
        self.outcomes_double, self.outcomes = count.outcomes_double, report.outcomes
        self.differing_bits, self.violations = report.differing_bits, report.violations

    def reasons(self, delivery: str) -> Iterable[str]:
        """Why this is no pass; nothing if it is."""
        if self.failure:
            yield self.failure
        if self.missing:
            yield f"{self.missing} visits were not decided"
        if self.double and delivery == EXACTLY_ONCE:
            yield f"{self.double} visits were decided twice"
        if self.outcomes_double and delivery == EXACTLY_ONCE:
            yield f"{self.outcomes_double} outcomes were published twice"
        if self.differing_bits:
            yield f"{self.differing_bits} bits differ from a replay of the log"
        yield from self.violations


class Run(msgspec.Struct, kw_only=True):
    """A whole run."""

    broker: str
    store: str
    delivery: str
    rate: float
    share: float
    machine: str
    command: str
    on: str
    seconds: float = 0.0
    results: list[Result] = []

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, doubled or left standing."""
        return not any(
            reason for result in self.results for reason in result.reasons(self.delivery)
        )


def machine() -> str:
    """This machine, in a few words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def today() -> str:
    """The date of the run."""
    return datetime.now(UTC).date().isoformat()


HEADINGS: Final = (
    "fault",
    "times",
    "decided again: p50 / p99",
    "learned again: p50 / p99",
    "visits missing",
    "double",
    "differing bits",
    "naive: lost",
    "naive: double",
)


def cells(result: Result) -> list[str]:
    """A row under `HEADINGS`."""
    naive = result.naive
    return [
        result.title,
        f"{result.times:,}",
        _seconds(result.decided_s),
        _seconds(result.learned_s),
        f"{result.missing:,}",
        f"{result.double:,}",
        f"{result.differing_bits:,}",
        f"{naive.lost:,}" if naive else "",
        f"{naive.double:,}" if naive else "",
    ]


def table_of(run: Run) -> Table:
    """For the screen."""
    table = Table(title=f"Faults under {run.rate:g} visits/s, {run.delivery}, {run.broker}")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number else "left")
    for result in run.results:
        failed = any(True for _ in result.reasons(run.delivery))
        table.add_row(*cells(result), style="red" if failed else None)
    return table


def page_of(run: Run) -> str:
    """`docs/faults.md`."""
    last = run.results[-1]
    doubled = sum(result.naive.double for result in run.results if result.naive)
    lost = sum(result.naive.lost for result in run.results if result.naive)
    rule = "|".join("---" if not number else "---:" for number in range(len(HEADINGS)))
    rows = [f"| {' | '.join(cells(result))} |" for result in run.results]
    return "\n".join(
        [
            "# Faults, and what they did",
            "",
            "This page is written by the command that makes the faults:",
            "",
            "```bash",
            run.command,
            "```",
            "",
            f"Run on {run.on} in {run.seconds / 60:.0f} minutes on {run.machine}; broker: "
            f"{run.broker}; store: {run.store}, append-only file, fsync every second; delivery: "
            f"{run.delivery}.",
            "",
            _PREAMBLE.format(rate=run.rate, share=run.share),
            "",
            f"| {' | '.join(HEADINGS)} |",
            f"|{rule}|",
            *rows,
            "",
            f"At the end the topics held {last.visits:,} visits and {last.outcomes:,} records in "
            f"`outcomes`: {last.missing:,} visits missing, {last.double:,} decided twice, "
            f"{last.outcomes_double:,} outcomes published twice by the servers, "
            f"{last.differing_bits:,} bits of the state different from a replay of the log.",
            "",
            _NAIVE.format(lost=lost, doubled=doubled),
            "",
        ]
    )


_PREAMBLE: Final = """\
Three servers and two trainers, as processes of their own, under {rate:g} visits/s, and on top of
them {share:.0%} of poison and duplicates: bytes that are no record among the visits and the
outcomes, outcomes with an absurd reward, and outcomes sent a second time. The faults follow one
another on the same topics and the same state; nobody helps but a supervisor that starts again what
has ended.

Time to recover, in seconds: from the kill, or from the end of the outage (Redis or broker answers
again after its start, or is unpaused), until a record written at that moment to *every* partition
has been decided or learned from. It includes the process's start, about a second. Each SIGSTOP
gives two times, which the quantiles mix: one from the stop, which includes the session timeout of
6 s, after which the group gives the partitions to others, and one from SIGCONT. Kept places are
Kafka's static membership (`KAFKA_GROUP_INSTANCE_ID`): a process that is started again goes on with
its partitions at once; without it the group waits for the session timeout.

After each fault, with the load going on: *missing* and *double* are decisions counted from the
topics with `read_committed`, over all visits so far; *differing bits* compares the whole state in
Redis with a replay of the log."""

_NAIVE: Final = """\
The last two columns are the same kills against a naive trainer (`tests/chaos/naive.py`) that runs
beside ours on the same outcomes: it adds to the rows in Redis, then commits its offset; no
compare-and-set, no offset in the store. Over the whole run it would have lost {lost:,} outcomes and
counted {doubled:,} twice, duplicates of the load not included."""


def _seconds(quantiles: Quantiles | None) -> str:
    return f"{quantiles.p50:.1f} / {quantiles.p99:.1f}" if quantiles else ""
