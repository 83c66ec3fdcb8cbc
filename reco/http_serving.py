"""`reco serve --http`: the API wired to window, broker and view, and served."""

import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import click
import msgspec
from starlette.routing import BaseRoute

from reco.http_lines import HttpLines, Totals
from reco.http_options import HttpOptions
from reco.logs import say
from reco.process import utc_now
from reco.traces import open_trace
from server.answers import Answers
from server.api import Parts, Settings, create_app
from server.experiment import Traffic
from server.freshness import FreshnessProbe
from server.guard import Gate
from server.http import Deadlines, HttpServer
from server.http_traces import HttpTraces
from server.listener import BadAddress
from server.model_view import ModelView
from server.rank_service import RankService
from server.ranking import Ranker
from server.readiness import api_not_ready
from server.resolver import Resolver
from server.several_views import Followed
from shared.catalogue import DataSet
from shared.kafka import KafkaCluster
from shared.live_catalogue import LiveCatalogue
from shared.metrics import HttpMetrics, ServerMetrics
from shared.redis_window import RedisWindow


class HttpService(NamedTuple):
    """The API, and what it counts."""

    server: HttpServer
    ranker: Ranker
    resolver: Resolver
    lines: HttpLines
    gate: Gate

    @property
    def url(self) -> str:
        """Where it is."""
        return self.server.url

    @property
    def totals(self) -> Totals:
        """What it has decided, and published, so far."""
        return Totals(self.ranker.counts.decisions, self.resolver.counts.clicked)

    def not_ready(self) -> list[str]:
        """Why it should get no requests, beside what its model says."""
        return api_not_ready(self.resolver, self.gate)


def open_http(
    options: HttpOptions,
    redis: str,
    model: str,
    cluster: KafkaCluster,
    dataset: DataSet,
    ranked: Followed,
    view: ModelView,
    traffic: Traffic,
    depth: int | None,
    freshness: FreshnessProbe,
    metrics: ServerMetrics,
    not_ready: Callable[[], Sequence[str]],
    not_alive: Callable[[], Sequence[str]],
    *,
    catalogue: LiveCatalogue | None = None,
    extra_routes: Callable[[Gate], Sequence[BaseRoute]] = lambda gate: [],
) -> HttpService:
    """Make it; it listens at once, and answers after `server.start`.

    Raises:
        click.UsageError: nothing can listen at the address.
    """
    window = RedisWindow(redis, model, options.rules)
    catalogue = catalogue or LiveCatalogue(dataset.products)
    ranker = Ranker(
        ranked,
        traffic,
        dataset.encoder,
        depth,
        utc_now=utc_now,
        clock=time.monotonic,
        observe_s=metrics.rank_latency.observe,
        catalogue=catalogue,
    )
    traces = HttpTraces(open_trace("server", "decide"), open_trace("server", "click"))
    answers = Answers(catalogue, dataset.encoder.features)
    lines = HttpLines()
    ranks = RankService(
        ranker,
        window,
        answers.ranked,
        options.rank_budget_s,
        time.monotonic,
        traces,
        lines.decided,
    )
    resolver = Resolver(
        window, cluster.producer(), freshness, time.monotonic, resolved=lines.resolved
    )
    gate = Gate()
    parts = Parts(
        ranks,
        resolver,
        window,
        view,
        answers,
        lambda: ranked.ready,
        not_ready,
        not_alive,
        gate,
        HttpMetrics(metrics.registry),
        time.monotonic,
        traces,
    )
    settings = Settings(_version(), options.limits, options.keys, options.origins)
    _measure(metrics, ranker, resolver)
    metrics.put_aside.read(lambda: window.put_aside)
    app = create_app(parts, settings, extra_routes(gate))
    try:
        server = HttpServer(options.address, app, gate, Deadlines(drain_s=options.drain_s))
    except BadAddress as error:
        raise click.UsageError(f"--http: {error}") from error
    return HttpService(server, ranker, resolver, lines, gate)


def start_http(service: HttpService, as_json: bool) -> None:
    """Answer from now on, and say where.

    Raises:
        NotServing: it did not start.
    """
    service.server.start()
    if as_json:
        click.echo(msgspec.json.encode({"http": service.url}))
    say(f"HTTP API at {service.url} (live page at /, description at /docs)")


def _measure(metrics: ServerMetrics, ranker: Ranker, resolver: Resolver) -> None:
    counts, resolved = ranker.counts, resolver.counts
    metrics.decisions.read(lambda: {("http",): counts.decisions})
    metrics.unknown_categories.read(lambda: counts.unknown_categories)
    metrics.clipped.read(lambda: counts.clipped)
    metrics.outcomes.read(lambda: resolved.outcomes)
    metrics.clicks.read(lambda: resolved.clicked)
    metrics.resolutions.read(lambda: {("click",): resolved.clicked, ("end",): resolved.expired})
    metrics.clicks_refused.read(lambda: {(why,): n for why, n in list(resolved.refused.items())})
    metrics.decisions_waiting.read(lambda: resolver.load.waiting)
    metrics.outbox.read(lambda: resolver.load.outbox)


def _version() -> str:
    try:
        return version("livereco")
    except PackageNotFoundError:  # run from the source tree
        return "0"
