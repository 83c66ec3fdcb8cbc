"""The server's composition root: options in; views, stream, HTTP and page out, and run."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import click
import msgspec

from reco import options
from reco.brokers import open_cluster, open_delivery, outcomes_log
from reco.catalogue_feed import open_products
from reco.data import load_or_prepare
from reco.http_options import HttpOptions
from reco.http_serving import HttpService, open_http, start_http
from reco.live import hidden_rates
from reco.logs import say
from reco.observed import observed
from reco.observed_server import ObservedServer
from reco.page import Page
from reco.policy_options import joint_solver, traffic
from reco.process import (
    keep_freed_memory,
    keep_what_is_there,
    one_blas_thread,
    process_name,
    stop_on_signals,
    utc_now,
)
from reco.serve_report import REPORT_EVERY_S, Reporter
from reco.shoppers import feedback_rule, reaction
from reco.stores import open_board, open_store
from reco.traces import open_trace
from reco.uplift import ExpectedClicks
from server.delivery import AT_LEAST_ONCE, undelivered
from server.experiment import Traffic
from server.follower import Follower, NoView
from server.freshness import FreshnessProbe
from server.http import NotServing
from server.joint_solver import JointSolver
from server.model_view import ModelView
from server.readiness import not_ready
from server.scorer import Policy, default_alpha
from server.several_views import Followed, SeveralViews
from server.stream import StreamServer
from server.timed_view import TimedView
from shared.events import VISITS
from shared.health import Heartbeat
from shared.kafka_admin import KafkaAdmin
from shared.live_catalogue import LiveCatalogue
from shared.metrics import ServerMetrics
from shared.ports import BrokerRefuses, BrokerUnavailable
from shared.settings import LAMBDA, SERVER_GROUP
from shared.shared_linucb import Hyperparameters

POLL_S: Final = 0.05


class ServeOptions(msgspec.Struct, frozen=True):
    """The options of `reco serve`."""

    kafka: str
    redis: str
    model: str
    data: Path
    gamma: float
    seed: int
    policy: str
    alpha: float | None
    hyper: Hyperparameters | None
    epsilon: float | None
    propensities: bool
    experiment: str | None
    experiment_name: str
    k: int
    depth: int | None
    feedback: str
    delivery: str | None
    stream: bool
    http: HttpOptions | None
    lines_per_s: int
    as_json: bool
    stale_limit_s: float
    metrics_at: options.Address | None
    patience_s: float

    @property
    def looked_at(self) -> int:
        """Ranks that a simulated shopper looks at who does not click."""
        return min(self.depth or self.k, self.k)

    @property
    def main(self) -> Policy:
        """The policy of `--policy`."""
        return self.policy_named(self.policy)

    @property
    def split(self) -> Traffic:
        """Who is served by which policy.

        Raises:
            click.BadParameter: the experiment is none.
        """
        return traffic(self.main, self.policy_named, self.experiment, self.experiment_name)

    def policy_named(self, name: str) -> Policy:
        """A policy with the parameters asked for, or else its own."""
        alpha = default_alpha(name) if self.alpha is None else self.alpha
        return Policy(name, alpha, LAMBDA, self.epsilon, self.propensities)


class ServerProcess:
    """One server. What it opens, `run` closes.

    Raises:
        BrokerUnavailable, StoreUnavailable: nobody answered in time.
        click.UsageError: the options don't fit each other, or the broker.
    """

    def __init__(self, chosen: ServeOptions) -> None:
        one_blas_thread()
        keep_freed_memory()
        self._options = chosen
        self._traffic = chosen.split
        self._data = load_or_prepare(chosen.data)
        self._cluster = open_cluster(chosen.kafka, chosen.patience_s)
        self._store = open_store(chosen.redis, chosen.model, chosen.patience_s)
        self._source = outcomes_log(self._cluster)
        self._stop = stop_on_signals()  # until here a signal ends the process at once
        self._metrics, self._name = ServerMetrics(), process_name()
        self._board = open_board(chosen.redis, chosen.model)
        self._expected = ExpectedClicks(chosen.k)
        self._freshness = FreshnessProbe(
            self._source.partitions, time.monotonic, self._metrics.freshness.observe
        )
        self._products = open_products(self._cluster, self._data)
        self._catalogue = self._products.catalogue
        self._followers = self._followed()
        views = {kind: follower.view for kind, follower in self._followers.items()}
        self._view = next(iter(views.values()))
        self._ranked: Followed = SeveralViews(views) if len(views) > 1 else self._view
        self._page = Page(
            self._cluster,
            self._store,
            self._data,
            self._traffic.variants[0].policy,
            self._source.partitions,
            hidden_rates(self._data, chosen.seed, chosen.k),
            self._board,
            self._catalogue,
        )
        group = f"{SERVER_GROUP}-{chosen.model}"
        self._consumer = self._cluster.consumer(VISITS, group, name=self._name)
        self._delivery = open_delivery(
            self._cluster, chosen.delivery if chosen.stream else AT_LEAST_ONCE, group
        )
        self._server = self._stream()
        self._heartbeat = Heartbeat(time.monotonic)
        self._http = self._opened_http()
        self._service = self._observed(group)

    def run(self) -> None:
        """Serve until told to stop.

        Raises:
            click.ClickException: there is no model to serve, or it is not ours; or the HTTP API
                did not start, or has ended.
        """
        chosen = self._options
        ranks = chosen.experiment or chosen.policy
        say(
            f"serving {chosen.model!r} by {ranks} from {self._store.describe()}, visits from "
            f"{self._cluster.describe()}"
        )
        say(f"delivery: {self._delivery.guarantee}")
        followers = list(self._followers.values())
        try:
            with self._closing(followers), ExitStack() as shown:
                at, board = chosen.metrics_at, self._board
                shown.enter_context(observed(self._service, self._name, at, board, self._not_alive))
                shown.enter_context(self._page.fed())
                if self._http:
                    # Before the rest of this block ends: what is shown says that it is leaving.
                    shown.callback(self._http.server.stop)
                    start_http(self._http, chosen.as_json)
                if all(follower.await_view(chosen.patience_s) for follower in followers):
                    self._serve()
        except (NoView, NotServing) as error:
            raise click.ClickException(str(error)) from error
        except BrokerRefuses:
            raise
        except BrokerUnavailable as error:
            say(undelivered(error, self._delivery))
        failures = [follower.failure for follower in followers if follower.failure]
        if failures:
            raise click.ClickException(failures[0])

    def _serve(self) -> None:
        chosen, server = self._options, self._server
        report = Reporter(
            server, self._ranked, self._freshness, chosen.lines_per_s, chosen.as_json, self._http
        )
        if chosen.stream:
            self._consumer.subscribe(server)
        keep_what_is_there()
        while not self._stop.is_set() and (self._http is None or self._http.server.alive):
            self._heartbeat.beat()
            try:
                report.lines(server.run_once(POLL_S))
            except BrokerRefuses:
                raise
            except BrokerUnavailable as error:
                say(f"{error}; trying again")
                self._stop.wait(REPORT_EVERY_S)
            report.http_lines()
            report.tick()
        self._heartbeat.rest()
        try:
            server.leave()
        finally:
            if self._http:
                self._http.server.stop()
            report.http_lines()  # what it answered while it drained is told as well
            report.tick(last=True)
        if self._http and not self._stop.is_set():
            self._http.server.check()

    def _not_alive(self) -> list[str]:
        """Which loop is stuck: the process's own, or one that keeps a view up to date."""
        loops = [self._heartbeat, *(each.heartbeat for each in self._followers.values())]
        return [reason for loop in loops for reason in loop.not_alive()]

    @contextmanager
    def _closing(self, followers: list[Follower]) -> Iterator[None]:
        for follower in followers:
            follower.start()
        try:
            yield
        finally:
            self._stop.set()
            if self._http:
                self._http.server.stop()
            for follower in followers:
                follower.join()
            self._products.close()
            self._consumer.close()
            self._delivery.close()

    def _followed(self) -> dict[str, Follower]:
        """A view for each solution that the policies score, the main one first."""
        policies = [variant.policy for variant in self._traffic.variants]
        followers: dict[str, Follower] = {}
        for policy in policies:
            if policy.solution not in followers:
                followers[policy.solution] = self._follower(policy, not followers)
        return followers

    def _follower(self, policy: Policy, main: bool) -> Follower:
        def solver(catalogue: LiveCatalogue, arms: Sequence[int]) -> JointSolver | None:
            return joint_solver(policy.name, self._options.hyper, self._data, catalogue, arms)

        def advanced(partition: int, next_offset: int) -> None:
            self._freshness.advanced(partition, next_offset)
            self._page.advanced(partition, next_offset)

        arms = self._catalogue.arms
        view = ModelView(
            self._store,
            arms,
            self._data.config_of(self._options.gamma),
            self._source.partitions,
            LAMBDA,
            time.monotonic,
            advanced if main else lambda partition, next_offset: None,
            solver(self._catalogue, arms),
        )
        return Follower(view, self._stop, self._products, solver, leads=main)

    def _stream(self) -> StreamServer:
        chosen = self._options
        return StreamServer(
            self._consumer,
            self._delivery,
            TimedView(self._ranked, time.monotonic, self._metrics.rank_latency.observe),
            self._traffic,
            self._data.encoder,
            reaction(self._data, chosen.seed, chosen.looked_at, self._expected, self._catalogue),
            feedback_rule(chosen.feedback, chosen.looked_at),
            source=lambda: self._cluster.source(VISITS),
            k=chosen.k,
            utc_now=utc_now,
            clock=time.monotonic,
            freshness=self._freshness,
            trace=open_trace("server", "decide"),
        )

    def _observed(self, group: str) -> ObservedServer:
        chosen = self._options
        return ObservedServer(
            self._metrics,
            self._server,
            self._ranked,
            KafkaAdmin(self._cluster),
            group=group,
            model=chosen.model,
            policy=chosen.experiment or chosen.policy,
            delivery=self._delivery.guarantee,
            experiment=self._traffic.experiment,
            expected=self._expected if chosen.stream else None,
            stale_limit_s=chosen.stale_limit_s,
            joins=chosen.stream,
            over_http=self._http.ranker.counts if self._http else None,
            api_not_ready=self._http.not_ready if self._http else lambda: (),
        )

    def _opened_http(self) -> HttpService | None:
        chosen = self._options
        if chosen.http is None:
            return None
        return open_http(
            chosen.http,
            chosen.redis,
            chosen.model,
            self._cluster,
            self._data,
            self._ranked,
            self._view,
            self._traffic,
            chosen.depth,
            self._freshness,
            catalogue=self._catalogue,
            metrics=self._metrics,
            not_ready=lambda: not_ready(self._ranked, stale_limit_s=chosen.stale_limit_s),
            not_alive=self._not_alive,
            extra_routes=lambda gate: self._page.routes(self._view, lambda: gate.draining),
        )
