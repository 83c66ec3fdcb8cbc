"""`reco evaluate`: compare bandit policies offline, on a logged history."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.table import Table

from reco import options, output_files, policy_options
from reco.commands import evaluate_log
from reco.number import Number
from server.scorer import POLICIES, Policy, default_alpha
from shared.settings import LAMBDA
from shared.shared_linucb import Hyperparameters

if TYPE_CHECKING:
    from reco.evaluation import Evaluation, PolicyResult

EXTRA_PACKAGES: Final = ("mab2rec", "mabwiser", "jurity", "pandas", "matplotlib")
MAX_SEED: Final = 2**32 - 1
"""scikit-learn's clustering takes no larger one."""
_OF_A_HISTORY: Final = ("history", "product_features", "seed", "plot")
_OF_KAFKA: Final = ("kafka", "patience_s")
_OF_THE_LOG: Final = (
    *(*_OF_KAFKA, "decisions", "outcomes", "policy", "alpha", "hyper", "epsilon", "gamma"),
    *("snapshot", "export"),
)
"""Parameters that only one of the two takes."""


@click.command()
@options.data
@click.option(
    "--history",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="CSV of shown products, oldest first: event_id, product_id, response (1 clicked, 0 not), "
    "and any number of numeric context columns.  [default: history.csv in --data]",
)
@click.option(
    "--product-features",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="CSV with product_id and numeric columns, a row for every product of the history. "
    "Mab2Rec checks them; none of the six policies learns from them.  "
    "[default: product_features.csv in --data]",
)
@options.seed()
@output_files.plot("Draw the table into FILE")
@click.option(
    "--log",
    type=click.Choice(["decisions"]),
    help="Evaluate one policy by the logged decisions and their outcomes instead.",
)
@options.kafka
@click.option(
    "--decisions",
    type=click.Path(path_type=Path),
    help="With --log: decisions from a file of JSON lines instead of Kafka …",
)
@click.option(
    "--outcomes",
    type=click.Path(path_type=Path),
    help="… and the outcomes; as `reco topics watch --json` prints them, or as on the topics, from "
    "the first on (where servers write in transactions, only the former says which offset each "
    "outcome has).",
)
@click.option("--policy", default="linucb", show_default=True, type=click.Choice(POLICIES))
@click.option("--alpha", type=Number(min=0), help="Exploration α. [default: the policy's own]")
@policy_options.variances
@options.epsilon
@options.gamma
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path),
    help="With --log: rank by this frozen model, one from before the log, instead of by the model "
    "as it stood at each decision. Decisions that it may have learned from are left out.",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="With --log: write the log in Open Bandit Pipeline's form (.npz and CSV).",
)
@options.json_output("the result")
@options.patience
def command(
    data: Path,
    history: Path | None,
    product_features: Path | None,
    seed: int,
    plot: Path | None,
    log: str | None,
    kafka: str,
    decisions: Path | None,
    outcomes: Path | None,
    policy: str,
    alpha: float | None,
    hyper: Hyperparameters | None,
    epsilon: float | None,
    gamma: float,
    snapshot: Path | None,
    export: Path | None,
    json_file: str | None,
    patience_s: float,
) -> None:
    """Compare policies offline: on a history, or on the log of decisions.

    Without --log, six policies with Mab2Rec: AUC, CTR, precision and recall at 5.

    Each policy is trained on the first 80 % of the history and recommends 5 products for each
    remaining event. Only events where the logged product is among the five tell anything about a
    policy's AUC and CTR, so the table gives their number and a 95 % interval beside each CTR.

    \b
    The JSON holds events, train_events, test_events, test_clicks, products, k, seed, and policies:
    a list of policy, auc, ctr, ctr_matched_events, ctr_clicks, ctr_interval [low, high],
    precision, recall; null where a figure is not defined.

    With --log decisions, the click rate that --policy would have had in the logged visits, by
    replay, IPS, SNIPS and doubly robust with 95 % intervals, under the cascade. The log has to be
    of a policy that randomises (`reco serve --epsilon 0.1`). --gamma has to be that of the model;
    --variances are those of the policy to be evaluated. The JSON holds policy, parameters, model,
    decisions, skipped, logged, ranks, estimates (a list of estimator, value, interval,
    decisions), overlap and caution.

    \b
    Examples:
      reco evaluate --plot evaluation.png
      reco evaluate --log decisions --policy linucb --alpha 0 --export feedback
      reco evaluate --history log.csv --product-features products.csv --json result.json
    """
    if log:
        options.refuse(_OF_A_HISTORY, "leave it out, or --log decisions")
        if decisions and outcomes:
            options.refuse(_OF_KAFKA, "the log is read from files; leave it out")
        strength = default_alpha(policy) if alpha is None else alpha
        asked = Policy(policy, strength, LAMBDA, epsilon)
        evaluate_log.run(
            evaluate_log.Asked(
                data,
                kafka,
                patience_s,
                decisions,
                outcomes,
                snapshot,
                asked,
                hyper,
                gamma,
                export,
                json_file,
            )
        )
        return
    options.refuse(_OF_THE_LOG, "add --log decisions, or leave it out")
    if seed > MAX_SEED:
        raise click.BadParameter(f"give a seed of at most {MAX_SEED}", param_hint="--seed")
    result = _evaluate(
        history or data / "history.csv",
        product_features or data / "product_features.csv",
        seed,
    )
    _print_table(result, Console(stderr=json_file == "-"))
    options.write_json(result, json_file)
    if plot is not None:
        _draw(result, plot)


def _evaluate(history_file: Path, product_features_file: Path, seed: int) -> "Evaluation":
    console = Console(stderr=True)
    with console.status("") as status, _extra_needed():

        def show(line: str) -> None:
            status.update(line)
            if not console.is_terminal:
                click.echo(line, err=True)

        from reco import evaluation_data

        try:
            history = evaluation_data.read_history(history_file)
            product_features = evaluation_data.read_product_features(product_features_file)
            show("Loading Mab2Rec")
            from reco import evaluation

            return evaluation.evaluate(
                history,
                product_features,
                seed,
                lambda policy, number, total: show(f"{policy} ({number} of {total})"),
            )
        except evaluation_data.UnusableData as error:
            raise click.UsageError(str(error)) from None


@contextmanager
def _extra_needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_PACKAGES:
            raise
        raise click.UsageError(
            f"the package {package} is missing: install the extra eval, "
            "with `make env` or `uv pip install -e '.[eval]'`"
        ) from None


def _print_table(result: "Evaluation", console: Console) -> None:
    from reco.evaluation import caution

    table = Table(
        title=f"Top {result.k}, {result.train_events:,} events to learn from, "
        f"{result.test_events:,} to test on, seed {result.seed}"
    )
    table.add_column("policy", no_wrap=True)
    for name in ("AUC", "CTR", "95 % interval", "matched", "precision", "recall"):
        table.add_column(name, justify="right", no_wrap=True)
    for policy in result.policies:
        table.add_row(*_cells(policy))
    console.print(table)
    console.print(caution(result), highlight=False)


def _cells(result: "PolicyResult") -> list[str]:
    interval = result.ctr_interval
    return [
        result.policy,
        _number(result.auc),
        _number(result.ctr),
        "–" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}",
        f"{result.ctr_matched_events:,}",
        _number(result.precision, digits=4),
        _number(result.recall, digits=4),
    ]


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _draw(result: "Evaluation", plot: Path) -> None:
    from reco.plots import draw_evaluation

    try:
        draw_evaluation(result, plot)
    except OSError as error:
        raise click.BadParameter(
            f"can't write {plot} ({error.strerror or error}): name a file that can be written",
            param_hint="--plot",
        ) from None
    click.echo(f"Drew {plot}", err=True)
