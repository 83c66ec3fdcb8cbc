"""`reco serve`: the server as a process."""

from typing import Any

import click

from reco import http_options, options
from reco.number import Number
from reco.policy_options import variances
from reco.serving import ServeOptions, ServerProcess
from reco.shoppers import FEEDBACK
from server.delivery import AT_LEAST_ONCE, EXACTLY_ONCE
from server.readiness import STALE_LIMIT_S
from server.scorer import POLICIES
from shared.settings import POLICY, SLATE_LENGTH


@click.command()
@options.kafka
@options.redis
@options.model
@options.data
@options.gamma
@options.seed()
@click.option("--policy", default=POLICY, show_default=True, type=click.Choice(POLICIES))
@click.option("--alpha", type=Number(min=0), help="Exploration α. [default: the policy's own]")
@variances
@options.epsilon
@click.option(
    "--propensities",
    is_flag=True,
    help="Let lints compute how likely its slates were: needed to evaluate other policies by "
    "its log, and slower than all else it does. The other policies always know.",
)
@options.experiment
@click.option(
    "--k",
    default=SLATE_LENGTH,
    show_default=True,
    type=click.IntRange(1, 50),
    help="Products of a slate for a visit of the topic; over HTTP the request's `k` says it, else "
    "it is 5.",
)
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
    help="Lines of visits, and of decisions over HTTP and their clicks, to print a second at most; "
    "0 for none.",
)
@click.option("--json", "as_json", is_flag=True, help="Report as lines of JSON on standard output.")
@click.option(
    "--stale-limit-s",
    default=STALE_LIMIT_S,
    show_default=True,
    type=Number(min=0),
    help="How old the model may be, while the store is away, before /readyz says 503.",
)
@options.observed
@options.patience
def command(**given: Any) -> None:
    """Rank the top 5 for every visit, and publish the decision and the click outcomes.

    Keeps nothing of its own: start several, kill any. The shoppers' reactions are simulated
    (their dice follow --seed).

    Example: reco serve --policy shared-linucb
    """
    chosen = ServeOptions(**given)
    if not chosen.stream and chosen.http is None:
        raise click.UsageError("--no-stream leaves nothing to do without --http HOST:PORT")
    if all(variant.policy.name != "lints" for variant in chosen.split.variants):
        why = "only lints has to be told to compute them; add --policy lints, or leave it out"
        options.refuse(["propensities"], why)
    ServerProcess(chosen).run()
