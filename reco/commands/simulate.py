"""`reco simulate`: policies and parameters swept in one process, without Kafka."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from producer.history import HistoryError, read_history
from reco import options, output_files
from reco.curves import draw_curves
from reco.data import load_or_prepare
from reco.learners import learner
from reco.logs import say
from reco.number import Number
from reco.policy_options import chosen, variances
from reco.process import keep_freed_memory, one_blas_thread, unwind_on_sigterm, utc_now
from reco.shoppers import FEEDBACK, feedback_rule
from reco.simulation import Past, Rates, Window, simulate, windows
from reco.worlds import WORLDS, World, world_of
from server.scorer import POLICIES, Policy, default_alpha
from shared.catalogue import DataSet
from shared.settings import LAMBDA, POLICY, SLATE_LENGTH
from shared.shared_linucb import Hyperparameters


def _ends(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Callback of `--windows`."""
    if value is None:
        return ()
    try:
        ends = tuple(int(part) for part in value.split(","))
    except ValueError:
        ends = (0,)
    if ends[0] < 1 or list(ends) != sorted(set(ends)):
        raise click.BadParameter("give visit numbers that ascend, as in 50,100,200")
    return ends


@click.command()
@options.data
@click.option("--policy", default=POLICY, show_default=True, type=click.Choice(POLICIES))
@click.option(
    "--world",
    "world_name",
    default="seed",
    show_default=True,
    type=click.Choice(WORLDS),
    help="seed: the four rules; extra: and a liking of each product that no feature explains; "
    "drift: two rules swap at half time; delay: outcomes come late; large: 10,000 products.",
)
@click.option(
    "--alpha",
    "alphas",
    type=Number(min=0),
    multiple=True,
    help="Exploration α; give it several times for a sweep. [default: the policy's own]",
)
@options.epsilon
@variances
@options.gamma
@click.option("--visits", default=4_000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--windows",
    "ends",
    metavar="N,N,…",
    callback=_ends,
    help="Where the windows end, as in 50,100,200. [default: 200,500,1000,2000,4000,…]",
)
@click.option(
    "--seeds",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many runs, with seeds from --seed on.",
)
@options.seed()
@click.option("--warm", is_flag=True, help="Learn from history.csv before the first visit.")
@click.option("--feedback", default="cascade", show_default=True, type=click.Choice(FEEDBACK))
@output_files.plot("Draw the learning curve into FILE")
@options.json_output("the windows")
def command(
    data: Path,
    policy: str,
    world_name: str,
    alphas: tuple[float, ...],
    epsilon: float | None,
    hyper: Hyperparameters | None,
    gamma: float,
    visits: int,
    ends: tuple[int, ...],
    seeds: int,
    seed: int,
    warm: bool,
    feedback: str,
    plot: Path | None,
    json_file: str | None,
) -> None:
    """Run producer, scorer and statistics in one process: click rate and uplift by visit.

    Click rates are the hidden model's probabilities of the slates shown, not the dice, so they
    carry no noise of the reactions. Uplift share: random slates are 0 %, the best possible 100 %.

    The JSON holds policy, world, alpha, gamma, seeds, warm and windows; with several α a list of
    these, `runs`.

    Example: reco simulate --policy shared-linucb --world extra --seeds 20
    """
    unwind_on_sigterm()
    dataset = load_or_prepare(data)
    tell = say if json_file == "-" else click.echo
    runs: list[dict[str, object]] = []
    curves: dict[str, list[Window]] = {}
    start = "after history" if warm else "cold start"
    world = world_of(world_name, dataset)
    past = _past(data / "history.csv", world.data) if warm else None
    for alpha in alphas or (default_alpha(policy),):
        scored = Policy(policy, alpha, LAMBDA, epsilon)
        run = partial(_run, world, scored, chosen(policy, hyper), gamma, visits, past, feedback)
        result = windows(_all(run, range(seed, seed + seeds), seeds), ends)
        tell(_table(result, f"{policy}, α = {alpha:g}, world {world_name}, {start}"))
        curves[f"α = {alpha:g}"] = result
        runs.append(
            {
                "policy": policy,
                "world": world_name,
                "alpha": alpha,
                "gamma": gamma,
                "seeds": seeds,
                "warm": warm,
                "windows": result,
            }
        )
    options.write_json(runs[0] if len(runs) == 1 else {"runs": runs}, json_file)
    if plot:
        count = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
        draw_curves(plot, curves, f"{policy}, world {world_name}, {start}, {count}", say)


def _run(
    world: World,
    policy: Policy,
    variances: tuple[Hyperparameters, bool],
    gamma: float,
    visits: int,
    past: Past | None,
    feedback: str,
    seed: int,
) -> Rates:
    one_blas_thread()
    keep_freed_memory()
    bandit = learner(world, policy, *variances, gamma)
    return simulate(world, bandit, visits, seed, feedback_rule(feedback, SLATE_LENGTH), past)


def _all(run: "partial[Rates]", seeds: range, count: int) -> list[Rates]:
    workers = min(count, os.cpu_count() or 1)
    if workers == 1:
        return [run(seed) for seed in seeds]
    results = []
    with ProcessPoolExecutor(workers, initializer=_leave_signals_to_the_parent) as pool:
        try:
            for done, rates in enumerate(pool.map(run, seeds), start=1):
                results.append(rates)
                say(f"seed {done} of {count} done")
        except BaseException:  # Ctrl-C: else the runs would be waited for
            for worker in active_children():
                worker.terminate()
            raise
    return results


def _leave_signals_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _past(path: Path, data: DataSet) -> Past:
    try:
        outcomes = list(
            read_history(
                path, data.encoder.features, data.encoder.id, utc_now(), frozenset(data.arms)
            )
        )
    except HistoryError as error:
        raise click.UsageError(
            f"{error}; `reco prepare` writes one, and without --warm none is needed"
        ) from error
    return Past(
        np.array([outcome.product_id for outcome in outcomes], np.int64),
        np.array([outcome.x for outcome in outcomes], np.float64),
        np.array([outcome.reward for outcome in outcomes], np.float64),
    )


def _table(result: list[Window], title: str) -> str:
    table = Table(title=title, title_justify="left")
    for name in ("visits", "click rate", "random", "best", "share of uplift", "± between seeds"):
        table.add_column(name, justify="right")
    for window in result:
        table.add_row(
            f"{window.start:,}-{window.end:,}",
            f"{window.click_rate:.4f}",
            f"{window.click_rate_random:.4f}",
            f"{window.click_rate_best:.4f}",
            f"{window.uplift_share:.1%}",
            f"{window.uplift_share_sd:.1%}",
        )
    console = Console(width=88)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()
