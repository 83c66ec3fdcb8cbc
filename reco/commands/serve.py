"""`reco serve`: the server as a process (stream mode)."""

import threading
import time
from pathlib import Path

import click

from reco import http_options, options
from reco.catalogue_feed import open_products
from reco.data import load_or_prepare
from reco.http_options import HttpOptions
from reco.http_serving import open_http, start_http
from reco.live import hidden_rates
from reco.observed import Observer, observed
from reco.page import Page
from reco.policy_options import default_alpha, joint_solver, variances
from reco.serve_report import REPORT_EVERY_S, Reporter
from reco.services import ObservedServer
from reco.shoppers import FEEDBACK, feedback_rule, reaction
from reco.uplift import ExpectedClicks
from reco.wiring import (
    one_blas_thread,
    open_board,
    open_cluster,
    open_delivery,
    open_store,
    open_trace,
    outcomes_log,
    process_name,
    say,
    stop_on_signals,
    utc_now,
)
from server.delivery import AT_LEAST_ONCE, EXACTLY_ONCE, undelivered
from server.follower import Follower, NoView
from server.freshness import FreshnessProbe
from server.joint_solver import JointSolver
from server.model_view import ModelView
from server.readiness import STALE_LIMIT_S, not_ready
from server.scorer import POLICIES, Policy
from server.stream import StreamServer
from server.timed_view import TimedView
from shared.events import VISITS
from shared.kafka_admin import KafkaAdmin
from shared.live_catalogue import LiveCatalogue
from shared.metrics import ServerMetrics
from shared.ports import BrokerUnavailable
from shared.settings import LAMBDA, POLICY, SERVER_GROUP, SLATE_LENGTH
from shared.shared_linucb import Hyperparameters

POLL_S = 0.05


@click.command()
@options.kafka
@options.redis
@options.model
@options.data
@options.gamma
@options.seed()
@click.option("--policy", default=POLICY, show_default=True, type=click.Choice(POLICIES))
@click.option(
    "--alpha", type=click.FloatRange(min=0), help="Exploration α. [default: the policy's own]"
)
@variances
@options.epsilon
@click.option(
    "--propensities",
    is_flag=True,
    help="Let lints compute how likely its slates were: needed to evaluate other policies by "
    "its log, and slower than all else it does. The other policies always know.",
)
@options.experiment
@click.option("--k", default=SLATE_LENGTH, show_default=True, type=click.IntRange(1, 50))
@click.option(
    "--depth",
    type=click.IntRange(1, 50),
    help="How many ranks a shopper looks at before leaving without a click. [default: all]",
)
@click.option(
    "--feedback",
    default="cascade",
    show_default=True,
    type=click.Choice(FEEDBACK),
    help="Which ranks get an outcome: cascade is right, top1 is for comparison.",
)
@click.option(
    "--delivery",
    type=click.Choice([EXACTLY_ONCE, AT_LEAST_ONCE]),
    help="exactly-once: each batch is one Kafka transaction; at-least-once: a batch may be decided "
    "again after a crash. [default: exactly-once where the broker can]",
)
@click.option(
    "--stream/--no-stream",
    default=True,
    show_default=True,
    help="Decide the visits of the topic; without it there is only the HTTP API.",
)
@http_options.http
@click.option(
    "--lines-per-s",
    default=20,
    show_default=True,
    type=click.IntRange(min=0),
    help="Visit lines to print a second at most; 0 for none.",
)
@click.option("--json", "as_json", is_flag=True, help="Report as lines of JSON on standard output.")
@click.option(
    "--stale-limit-s",
    default=STALE_LIMIT_S,
    show_default=True,
    type=click.FloatRange(min=0),
    help="How old the model may be, while the store is away, before /readyz says 503.",
)
@options.observed
@options.patience
def command(
    kafka: str,
    redis: str,
    model: str,
    data: Path,
    gamma: float,
    seed: int,
    policy: str,
    alpha: float | None,
    hyper: Hyperparameters | None,
    epsilon: float | None,
    propensities: bool,
    experiment: str | None,
    experiment_name: str,
    k: int,
    depth: int | None,
    feedback: str,
    delivery: str | None,
    stream: bool,
    http: HttpOptions | None,
    lines_per_s: int,
    as_json: bool,
    stale_limit_s: float,
    metrics_at: options.Address | None,
    patience_s: float,
) -> None:
    """Rank the top 5 for every visit, and publish the decision and the click outcomes.

    Keeps nothing of its own: start several, kill any. The shoppers' reactions are simulated
    (their dice follow --seed).

    Example: reco serve --policy shared-linucb
    """
    if not stream and http is None:
        raise click.UsageError("--no-stream leaves nothing to do without --http HOST:PORT")
    one_blas_thread()
    strength = default_alpha(policy) if alpha is None else alpha
    traffic = options.traffic(
        Policy(policy, strength, LAMBDA, epsilon, propensities), experiment, experiment_name
    )
    stop = stop_on_signals()
    dataset = load_or_prepare(data)
    cluster = open_cluster(kafka, patience_s)
    store = open_store(redis, model, patience_s)
    source = outcomes_log(cluster)
    products = open_products(cluster, dataset)
    looked_at = min(depth or k, k)
    metrics, expected, name = ServerMetrics(), ExpectedClicks(k), process_name()
    freshness = FreshnessProbe(source.partitions, time.monotonic, metrics.freshness.observe)
    ranking = Policy(policy, strength, LAMBDA, epsilon, propensities)
    board, hidden = open_board(redis, model), hidden_rates(dataset, seed, k)
    page = Page(cluster, store, dataset, ranking, source.partitions, hidden, board)

    def advanced(partition: int, next_offset: int) -> None:
        freshness.advanced(partition, next_offset)
        page.advanced(partition, next_offset)

    def solver(catalogue: LiveCatalogue) -> JointSolver | None:
        return joint_solver(policy, hyper, dataset, catalogue)

    view = ModelView(
        store,
        products.catalogue.arms,
        dataset.config_of(gamma),
        source.partitions,
        LAMBDA,
        time.monotonic,
        advanced,
        solver(products.catalogue),
    )
    group = f"{SERVER_GROUP}-{model}"
    consumer = cluster.consumer(VISITS, group, name=name)
    writer = open_delivery(cluster, delivery if stream else AT_LEAST_ONCE, group)
    server = StreamServer(
        consumer,
        writer,
        TimedView(view, time.monotonic, metrics.rank_latency.observe),
        traffic,
        dataset.encoder,
        reaction(dataset, seed, looked_at, expected, products.catalogue),
        feedback_rule(feedback, looked_at),
        k=k,
        utc_now=utc_now,
        clock=time.monotonic,
        freshness=freshness,
        trace=open_trace("server", "decide"),
    )
    say(
        f"serving {model!r} by {experiment or policy} from {store.describe()}, "
        f"visits from {cluster.describe()}"
    )
    say(f"delivery: {writer.guarantee}")
    service = ObservedServer(
        metrics,
        server,
        view,
        KafkaAdmin(cluster),
        group=group,
        model=model,
        policy=policy,
        delivery=writer.guarantee,
        expected=expected,
        stale_limit_s=stale_limit_s,
        joins=stream,
    )
    api = http and open_http(
        http,
        redis,
        model,
        cluster,
        dataset,
        view,
        traffic,
        depth,
        freshness,
        catalogue=products.catalogue,
        metrics=metrics,
        not_ready=lambda: not_ready(view, stale_limit_s=stale_limit_s),
        extra_routes=lambda gate: page.routes(view, lambda: gate.draining),
    )
    report = Reporter(server, view, freshness, lines_per_s, as_json)
    follower = Follower(view, stop, products, solver)
    follower.start()
    try:
        with observed(service, name, metrics_at, board) as observer, page.fed():
            if api:
                start_http(api, as_json)
            if follower.await_view(patience_s):
                if stream:
                    consumer.subscribe(server)
                _run(server, stop, report, observer)
                server.leave()
    except NoView as error:
        raise click.ClickException(str(error)) from error
    except BrokerUnavailable as error:
        say(undelivered(error, writer))
    finally:
        stop.set()
        if api:
            api.server.stop()
        follower.join()
        products.close()
        consumer.close()
        writer.close()
    if follower.failure:
        raise click.ClickException(follower.failure)


def _run(server: StreamServer, stop: threading.Event, report: Reporter, observer: Observer) -> None:
    while not stop.is_set():
        observer.heartbeat.beat()
        try:
            report.lines(server.run_once(POLL_S))
        except BrokerUnavailable as error:
            say(f"{error}; trying again")
            stop.wait(REPORT_EVERY_S)
        report.tick()
    report.tick(last=True)
