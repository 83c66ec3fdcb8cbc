"""`reco evaluate`: compare bandit policies offline, on a logged history."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from reco import options

if TYPE_CHECKING:
    from reco.evaluation import Evaluation, PolicyResult

EXTRA_PACKAGES: Final = ("mab2rec", "mabwiser", "jurity", "pandas", "matplotlib")
PLOT_FORMATS: Final = (".png", ".svg", ".pdf")
STDOUT: Final = Path("-")
MAX_SEED: Final = 2**32 - 1
"""scikit-learn's clustering takes no larger one."""


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
@click.option(
    "--plot",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="Draw the table into FILE (.png, .svg or .pdf).",
    metavar="FILE",
)
@click.option(
    "--json",
    show_envvar=True,
    is_flag=False,
    flag_value=str(STDOUT),
    type=click.Path(path_type=Path),
    metavar="[FILE]",
    help="Write the result as JSON to FILE; without FILE, or with -, to standard output in place "
    "of the table.",
)
def command(
    data: Path,
    history: Path | None,
    product_features: Path | None,
    seed: int,
    plot: Path | None,
    json: Path | None,
) -> None:
    """Compare six policies offline with Mab2Rec: AUC, CTR, precision and recall at 5.

    Each policy is trained on the first 80 % of the history and recommends 5 products for each
    remaining event. Only events where the logged product is among the five tell anything about a
    policy's AUC and CTR, so the table gives their number and a 95 % interval beside each CTR.

    \b
    The JSON holds events, train_events, test_events, test_clicks, products, k, seed, and policies:
    a list of policy, auc, ctr, ctr_matched_events, ctr_clicks, ctr_interval [low, high],
    precision, recall; null where a figure is not defined.

    \b
    Examples:
      reco evaluate --plot evaluation.png
      reco evaluate --history log.csv --product-features products.csv --json result.json
    """
    if seed > MAX_SEED:
        raise click.BadParameter(f"give a seed of at most {MAX_SEED}", param_hint="--seed")
    _check_output(plot, "--plot")
    _check_output(None if json == STDOUT else json, "--json")
    if plot is not None and plot.suffix.lower() not in PLOT_FORMATS:
        raise click.BadParameter(
            f"{plot} does not end in {', '.join(PLOT_FORMATS)}: choose one of these formats",
            param_hint="--plot",
        )
    result = _evaluate(
        history or data / "history.csv",
        product_features or data / "product_features.csv",
        seed,
    )
    if json == STDOUT:
        click.echo(_as_json(result))
    else:
        _print_table(result)
    if json is not None and json != STDOUT:
        _write(json, lambda: json.write_text(_as_json(result) + "\n", encoding="utf-8"))
    if plot is not None:
        from reco.plots import draw_evaluation

        _write(plot, lambda: draw_evaluation(result, plot))


def _evaluate(history: Path, product_features: Path, seed: int) -> "Evaluation":
    console = Console(stderr=True)
    with console.status("Loading Mab2Rec") as status:
        if not console.is_terminal:
            click.echo("Loading Mab2Rec", err=True)
        try:
            from reco import evaluation, evaluation_data
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in EXTRA_PACKAGES:
                raise
            raise click.UsageError(
                f"the package {error.name} is missing: install the extra eval, "
                "with `make env` or `uv pip install -e '.[eval]'`"
            ) from None

        def show(policy: str, number: int, total: int) -> None:
            line = f"{policy} ({number} of {total})"
            status.update(line)
            if not console.is_terminal:
                click.echo(line, err=True)

        try:
            return evaluation.evaluate(
                evaluation_data.read_history(history),
                evaluation_data.read_product_features(product_features),
                seed,
                show,
            )
        except evaluation_data.UnusableData as error:
            raise click.UsageError(str(error)) from None


def _print_table(result: "Evaluation") -> None:
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
    console = Console()
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


def _as_json(result: "Evaluation") -> str:
    return msgspec.json.format(msgspec.json.encode(result), indent=2).decode()


def _check_output(path: Path | None, option: str) -> None:
    """Refuse, before the work rather than after it, where nothing can be written."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        what = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise click.BadParameter(f"{path} {what}: name a file", param_hint=option)


def _write(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise click.UsageError(
            f"can't write {path} ({error.strerror or error}): name a file that can be written"
        ) from None
    click.echo(f"Wrote {path}", err=True)
