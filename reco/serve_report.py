"""What `reco serve` says while it runs: visit lines, and once a second what has been done."""

import time
from typing import Any, Final

import click
import msgspec

from reco import logs
from reco.http_lines import Decided, Heard, Told
from reco.logs import say
from server.freshness import FreshnessProbe
from server.several_views import Followed
from server.stream import Served, StreamServer

REPORT_EVERY_S: Final = 1.0


class Reporter:
    """Tells people (or, as JSON, programs) what is going on."""

    def __init__(
        self,
        server: StreamServer,
        view: Followed,
        freshness: FreshnessProbe,
        lines_per_s: int,
        as_json: bool,
        http: Told | None = None,
    ) -> None:
        self._server = server
        self._view = view
        self._freshness = freshness
        self._lines_per_s = lines_per_s
        self._as_json = as_json
        self._http = http
        self._left = lines_per_s
        self._due_s = time.monotonic() + REPORT_EVERY_S
        self._told = ""

    def lines(self, served: list[Served]) -> None:
        """One line a visit, as far as the second's ration goes."""
        for item in served[: self._left]:
            visit_id, clicked = item.visit.visit_id, item.clicked
            said = {"visit_id": visit_id, "clicked": clicked is not None}
            ids = {"decision_id": item.decision.decision_id, "visit_id": visit_id}
            self._write(visit_line(item), said, {**ids, "clicked": clicked})
        self._left -= min(self._left, len(served))

    def http_lines(self) -> None:
        """One line a decision over HTTP, and one for what came of it, from the same ration."""
        heard = self._http.lines.take(self._left) if self._http else []
        for item in heard:
            fields, line = _heard(item)
            self._write(line, fields, fields)
        self._left -= len(heard)

    def _write(self, line: str, said: dict[str, Any], logged: dict[str, Any]) -> None:
        if self._as_json:
            click.echo(msgspec.json.encode({**said, "line": line}))
        elif logs.structured():
            logs.record(line, **logged)
        else:
            click.echo(line)

    def tick(self, last: bool = False) -> None:
        """Once a second (and at the end): what has been done."""
        if not last and time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + REPORT_EVERY_S
        self._left = self._lines_per_s
        samples_ms = self._freshness.take_ms()
        if self._as_json:
            report = {
                "counts": msgspec.to_builtins(self._server.counts),
                "freshness_ms": [round(sample, 3) for sample in samples_ms],
                "stale": self._view.stale,
                "gaps": self._view.gaps,
            }
            click.echo(msgspec.json.encode(report))
            return
        text = self._sentence()
        if text != self._told:
            say(text)
        self._told = text

    def _sentence(self) -> str:
        counts = self._server.counts
        rate = counts.clicks / counts.visits if counts.visits else 0.0
        text = f"visits {counts.visits:,}, click rate {rate:.3f}"
        if self._http:
            decided, clicked = self._http.totals
            text += f"; over HTTP {decided:,} decided, {clicked:,} clicked"
        for name, count in (
            ("dead letters", counts.dead_letters),
            ("unknown categories", counts.unknown_categories),
            ("clipped numbers", counts.clipped),
        ):
            if count:
                text += f", {name} {count:,}"
        return f"{text}; STALE: {self._view.error}" if self._view.error else text


def _heard(heard: Heard) -> tuple[dict[str, Any], str]:
    if isinstance(heard, Decided):
        return {"decision_id": heard.decision.decision_id}, decided_line(heard)
    decision, rank = heard.waiting.decision, heard.clicked_rank
    clicked = decision.slate[rank - 1].product_id if rank else None
    line = resolved_line(decision.decision_id, clicked)
    return {"decision_id": decision.decision_id, "clicked": clicked}, line


def decided_line(decided: Decided) -> str:
    """`User 0327 (23 yo) @ Mon 07:29 -> Recs: [192, 189, …] (decision 5f0c…)`"""
    context, decision, user = decided.request.context, decided.decision, decided.request.user_id
    products = [item.product_id for item in decision.slate]
    return (
        f"{f'User {user:04d}' if user else 'Somebody'} ({context.age} yo) @ "
        f"{context.occurred_at:%a %H:%M} -> Recs: {products} (decision {decision.decision_id})"
    )


def resolved_line(decision_id: str, clicked: int | None) -> str:
    """`Decision 5f0c… -> Clicked: 192 (✅)`"""
    return f"Decision {decision_id} -> Clicked: {clicked} ({_mark(clicked)})"


def visit_line(served: Served) -> str:
    """`User 0327 (23 yo) @ Mon 07:29 -> Recs: [192, 189, …] -> Clicked: 192 (✅)`"""
    visit = served.visit
    products = [item.product_id for item in served.decision.slate]
    return (
        f"User {visit.user_id:04d} ({visit.context.age} yo) @ "
        f"{visit.context.occurred_at:%a %H:%M} -> Recs: {products} -> "
        f"Clicked: {served.clicked} ({_mark(served.clicked)})"
    )


def _mark(clicked: int | None) -> str:
    return "❌" if clicked is None else "✅"
