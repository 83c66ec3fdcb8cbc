"""docs/learning.md and its plots, from the runs' results: every figure on it is computed here."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from reco.plots import DPI, GRID, INK, PERCENT, RUN_COLOURS
from reco.simulation import Rates, Window, windows
from shared.arm_statistics import Floats
from tests.learning.figures import Runs, Tables, Verdict, name, verdicts
from tests.learning.plan import Entry

STEP: Final = 100
"""Visits that a point of a curve is the mean of."""
TICKS: Final = (50, 100, 200, 500, 1_000, 2_000, 4_000)
RULE: Final = "linucb"

ABOUT: Final = {
    "seed": ("The four rules, cold start", "All that is true of products is in their features."),
    "extra": (
        "World `extra`, cold start",
        "Each product has a liking N(0, 0.7) in its logit that no feature explains.",
    ),
    "history": (
        "The four rules, after the history",
        "10,000 events of random products come first.",
    ),
    "drift": (
        "World `drift`, cold start",
        "Morning's and weekend's likings change places at half time. γ is the forgetting factor "
        "for each outcome of an arm's partition.",
    ),
    "delay": (
        "World `delay`, cold start",
        "What was not clicked is known 300 visits late (a reward window of 30 s at ten visits a "
        "second), a click any time up to that.",
    ),
    "large": (
        "World `large`, cold start",
        "10,000 products generated from the same menu's grammar.",
    ),
}

HEAD: Final = """\
# How fast it learns

`make learning-report` wrote this page and its plots; every figure on it comes from the runs. To
make it anew: `rm -r .learning`, then the same command (hours on two cores; it goes on where it was
interrupted). Slow lines have fewer seeds, and so have those that were not finished: the last column
says how many. Lines are compared on the seeds that both have.

A figure is the share of the possible uplift in a window of visits: random slates are 0 %, the best
possible slates 100 %. It is computed from the hidden model's click probabilities of the slates
shown, so the shoppers' dice add no noise; ± is the standard deviation between seeds. All policies
meet the same visits, and learn from each before the next (world `delay` apart). α and the default
variances were chosen on seeds 1 to 120, none of which is shown here; only the observation that the
start could be improved came from the seeds shown. That the default leaves them fixed instead of
estimating them from the rows follows from this page.

Joint solves are made whenever the outcomes have grown by half a percent: after every visit at
first, after every twentieth at visit 4,000.
"""


def curve(runs: Iterable[Rates]) -> Floats:
    """The share of the possible uplift of each run, by `STEP` visits."""
    rows = []
    for run in runs:
        count = len(run.shown) // STEP
        shown, random, best = (
            part[: count * STEP].reshape(count, STEP).mean(axis=1) for part in run
        )
        rows.append((shown - random) / (best - random))
    return np.array(rows)


def write(folder: Path, tables: Tables) -> None:
    """Write the page and a plot for each table that has results."""
    parts = [HEAD]
    found = list(verdicts(tables))
    if found:
        parts += ["## What was to be reached\n", _verdicts(found)]
    for key, lines in tables.items():
        if not lines:
            continue
        title, about = ABOUT[key]
        draw(folder / f"learning-{key}.png", title, lines)
        parts += [f"## {title}\n", f"{about}\n", _table(lines)]
        parts.append(f"![{title}: share of the possible uplift by visit](learning-{key}.png)\n")
    (folder / "learning.md").write_text("\n".join(parts), encoding="utf-8")


def _verdicts(found: Iterable[Verdict]) -> str:
    rows = ["| table | asked | measured | |", "|---|---|---|---|"]
    for verdict in found:
        told = "reached" if verdict.reached else "**missed**"
        title, _ = ABOUT[verdict.table]
        rows.append(f"| {title} | {verdict.asked} | {verdict.measured} | {told} |")
    return "\n".join(rows) + "\n"


def _table(lines: Mapping[Entry, Runs]) -> str:
    results = {entry: windows(runs.values()) for entry, runs in lines.items()}
    names = " | ".join(name(window) for window in next(iter(results.values())))
    columns = len(names.split("|")) + 1
    rows = [f"| policy | {names} | seeds |", "|---|" + "---|" * columns]
    for entry, result in results.items():
        alone = len(lines[entry]) == 1
        cells = " | ".join(_cell(window, alone) for window in result)
        rows.append(f"| {entry.label} | {cells} | {len(lines[entry])} |")
    return "\n".join(rows) + "\n"


def _cell(window: Window, alone: bool) -> str:
    spread = "" if alone else f" ± {100 * window.uplift_share_sd:.1f}"
    return f"{100 * window.uplift_share:.1f}{spread} %"


def draw(path: Path, title: str, lines: Mapping[Entry, Runs]) -> None:
    """Mean by visit; ours and the plain rule with a band of ± 1 standard deviation of seeds."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    lowest = 1.0
    for number, (entry, runs) in enumerate(lines.items()):
        colour = RUN_COLOURS[number % len(RUN_COLOURS)]
        shares = curve(runs.values())
        at = (np.arange(shares.shape[1]) + 0.5) * STEP
        mean, spread = shares.mean(axis=0), shares.std(axis=0)
        lowest = min(lowest, float(mean.min()))
        style = "-" if number < len(RUN_COLOURS) else "--"
        axes.plot(at, mean, color=colour, linestyle=style, label=entry.label)
        if number == 0 or entry.policy == RULE:  # more bands would only hide each other
            low, high = mean - spread, mean + spread
            axes.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.axhline(0, color=INK, linewidth=1)
    axes.axhline(1, color=INK, linewidth=1, linestyle="--")
    axes.set_title(title.replace("`", ""), color=INK, fontsize=11)
    if lowest > -0.1:  # most happens first, but where something changes later
        axes.set_xscale("log")
        axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
        axes.minorticks_off()
    axes.set_xlabel(f"visits (a point is the mean of {STEP})")
    axes.set_ylabel("share of the possible uplift")
    axes.set_ylim(0.8 if lowest > 0.8 else min(lowest, 0.0) - 0.05, 1.01 if lowest > 0.8 else 1.05)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=DPI)
