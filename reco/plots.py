"""Figures of the offline comparison and of the learning curves. They need no display."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

if TYPE_CHECKING:
    from reco.evaluation import Evaluation, PolicyResult
    from reco.simulation import Window

DPI: Final = 144
RUN_COLOURS: Final = ("#1f5fa8", "#d1661f", "#3a8f4d", "#8a4fa3", "#a8323e", "#5c5c5c")
BANDED_RUNS: Final = 3
"""More bands than these only hide each other."""
RUN_MARKERS: Final = "osD^vP"
BAR_COLOUR: Final = "#8fb3d9"
INK: Final = "#1d2733"
GRID: Final = "#d8dde3"
PERCENT: Final = FuncFormatter(lambda share, _: f"{100 * share:.6g} %")


def draw_evaluation(evaluation: "Evaluation", path: Path) -> None:
    """Draw CTR with its interval beside AUC, precision and recall, a row a policy.

    Args:
        evaluation: what to draw.
        path: file to write; its suffix (.png, .svg, .pdf) picks the format.

    Raises:
        OSError: the file can't be written.
    """
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    panels = figure.subplots(
        1, 4, sharey=True, gridspec_kw={"width_ratios": [2.4, 1.2, 1, 1]}, squeeze=False
    )[0]
    results = evaluation.policies
    _draw_ctr(panels[0], results, evaluation.k)
    for axes, name, values, digits in (
        (panels[1], "AUC", [r.auc for r in results], 3),
        (panels[2], "precision", [r.precision for r in results], 4),
        (panels[3], "recall", [r.recall for r in results], 3),
    ):
        _draw_bars(axes, f"{name} @{evaluation.k}", values, digits)
    panels[1].axvline(0.5, color=INK, linewidth=1, linestyle=":")
    panels[1].text(0.5, -0.75, " 0.5 = chance", color=INK, fontsize=8, va="center")
    panels[0].set_yticks(range(len(results)), [result.policy for result in results])
    panels[0].set_ylim(len(results) - 0.4, -1.1)
    figure.suptitle(
        f"Offline comparison: {evaluation.test_events:,} test events "
        f"({evaluation.test_clicks:,} clicked) after {evaluation.train_events:,} training events",
        color=INK,
        fontsize=11,
    )
    figure.savefig(path, dpi=DPI)


def draw_learning_curves(
    runs: Mapping[str, Sequence["Window"]], path: Path, title: str = ""
) -> None:
    """Draw uplift share and click rate by visit window, a line a run.

    The windows are drawn equally wide, since most happens in the first and shortest. All runs
    must have the same windows. Click rates of the random and the best slate are of the first run.

    Args:
        runs: label → windows in order.
        title: what the runs have in common.
        path: file to write; its suffix (.png, .svg, .pdf) picks the format.

    Raises:
        ValueError: no runs, a run without windows, or runs with different windows.
        OSError: the file can't be written.
    """
    windows = _common_windows(runs)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    if title:
        figure.suptitle(title, color=INK, fontsize=11)
    uplift, rate = figure.subplots(1, 2)
    positions = range(len(windows))
    spread = any(window.uplift_share_sd > 0.0 for run in runs.values() for window in run)
    banded = spread and len(runs) <= BANDED_RUNS
    for number, (label, run) in enumerate(runs.items()):
        style = {
            "color": RUN_COLOURS[number % len(RUN_COLOURS)],
            "marker": RUN_MARKERS[number % len(RUN_MARKERS)],
            "linestyle": "-" if number < len(RUN_COLOURS) else "--",
        }
        uplift.plot(positions, [w.uplift_share for w in run], label=label, **style)
        if banded:
            low, high = _band(run)
            uplift.fill_between(positions, low, high, color=style["color"], alpha=0.15, linewidth=0)
        rate.plot(positions, [w.click_rate for w in run], label=label, **style)
    _draw_references(rate, next(iter(runs.values())))
    uplift.axhline(0, color=INK, linewidth=1)
    uplift.axhline(1, color=INK, linewidth=1, linestyle="--")
    uplift.set_ylabel("share of the possible uplift\n(random = 0 %, best possible slate = 100 %)")
    uplift.yaxis.set_major_locator(MultipleLocator(0.2))
    lows = [low for run in runs.values() for low in _band(run)[0]]
    highs = [high for run in runs.values() for high in _band(run)[1]]
    uplift.set_ylim(min(0.0, *lows) - 0.04, max(1.0, *highs) + 0.04)
    rate.yaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 2, 5, 10]))
    rate.set_ylabel("expected click rate of the slates shown")
    uplift.set_title(
        "Uplift captured" + (" (band: ± 1 standard deviation between seeds)" if banded else ""),
        color=INK,
        fontsize=10,
    )
    rate.set_title("Click rate beside random and best", color=INK, fontsize=10)
    for axes in (uplift, rate):
        _finish(axes)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_xticks(positions, [f"{a:,}–{b:,}" for a, b in windows], rotation=30, ha="right")
        axes.set_xlabel("visits")
        axes.grid(axis="y", color=GRID, linewidth=0.8)
    handles, labels = rate.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False
    )
    figure.savefig(path, dpi=DPI)


def _draw_ctr(axes: Axes, results: "Sequence[PolicyResult]", k: int) -> None:
    """A dot for each CTR, a line for its interval, and the counts behind it."""
    for row, result in enumerate(results):
        if result.ctr is None or result.ctr_interval is None:
            axes.text(0.01, row, "no matched event", va="center", fontsize=9, color=INK)
            continue
        low, high = result.ctr_interval
        axes.plot(
            [low, high], [row, row], color=RUN_COLOURS[0], linewidth=2.2, solid_capstyle="butt"
        )
        axes.plot(result.ctr, row, "o", color=RUN_COLOURS[0], markersize=7)
        axes.text(
            high,
            row,
            f"  {result.ctr_clicks:,} of {result.ctr_matched_events:,}",
            va="center",
            fontsize=8.5,
            color=INK,
        )
    widest = max((r.ctr_interval[1] for r in results if r.ctr_interval is not None), default=1.0)
    axes.set_xlim(0, widest * 1.3)
    axes.set_title(f"CTR @{k} with its 95 % interval", color=INK, fontsize=10)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("share of the matched events that were clicked")
    _finish(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.8)


def _draw_bars(axes: Axes, title: str, values: Sequence[float | None], digits: int) -> None:
    known = [value or 0.0 for value in values]
    axes.barh(range(len(values)), known, color=BAR_COLOUR, height=0.62)
    for row, value in enumerate(values):
        axes.annotate(
            "not defined" if value is None else f"{value:.{digits}f}",
            xy=(value or 0.0, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    axes.set_xlim(0, max(known) * 1.45 or 1)
    axes.set_title(title, color=INK, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    _finish(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.8)


def _draw_references(axes: Axes, run: Sequence["Window"]) -> None:
    positions = range(len(run))
    best = [window.click_rate_best for window in run]
    random = [window.click_rate_random for window in run]
    axes.plot(positions, best, color=INK, linestyle="--", linewidth=1, label="best possible slate")
    axes.plot(positions, random, color=INK, linestyle=":", linewidth=1.4, label="random slate")


def _band(run: Sequence["Window"]) -> tuple[list[float], list[float]]:
    spreads = [window.uplift_share_sd for window in run]
    shares = [window.uplift_share for window in run]
    return (
        [share - spread for share, spread in zip(shares, spreads, strict=True)],
        [share + spread for share, spread in zip(shares, spreads, strict=True)],
    )


def _common_windows(runs: Mapping[str, Sequence["Window"]]) -> list[tuple[int, int]]:
    windows = [[(window.start, window.end) for window in run] for run in runs.values()]
    if not windows or not windows[0]:
        raise ValueError("nothing to draw: at least one run with one window is needed")
    if any(other != windows[0] for other in windows):
        raise ValueError("the runs have different windows: draw them apart")
    return windows[0]


def _finish(axes: Axes) -> None:
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
