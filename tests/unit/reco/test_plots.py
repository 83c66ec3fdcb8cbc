from pathlib import Path

import pytest

from reco.evaluation import Evaluation, PolicyResult
from reco.plots import draw_evaluation, draw_learning_curves
from reco.simulation import Window


def window(start: int, end: int, uplift_share: float, uplift_share_sd: float = 0.0) -> Window:
    click_rate = 0.5 + 0.17 * uplift_share
    return Window(start, end, click_rate, 0.5, 0.67, uplift_share, uplift_share_sd)


def evaluation(*policies: PolicyResult) -> Evaluation:
    return Evaluation(
        events=50,
        train_events=40,
        test_events=10,
        test_clicks=4,
        products=3,
        k=5,
        seed=1,
        policies=list(policies),
    )


KNOWN = PolicyResult(
    policy="LinUCB",
    auc=0.8,
    ctr=0.25,
    ctr_matched_events=8,
    ctr_clicks=2,
    ctr_interval=(0.07, 0.59),
    precision=0.05,
    recall=0.25,
)
UNKNOWN = PolicyResult(
    policy="Random",
    auc=None,
    ctr=None,
    ctr_matched_events=0,
    ctr_clicks=0,
    ctr_interval=None,
    precision=0.0,
    recall=0.0,
)


def svg(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def texts(path: Path) -> set[str]:
    """What an SVG says: matplotlib keeps each text as a comment beside its outlines."""
    return {line.strip()[5:-4] for line in svg(path).splitlines() if line.strip()[:5] == "<!-- "}


def test_the_comparison_names_policies_and_the_counts_behind_each_ctr(tmp_path: Path) -> None:
    draw_evaluation(evaluation(KNOWN, UNKNOWN), tmp_path / "e.svg")
    said = texts(tmp_path / "e.svg")
    assert {"LinUCB", "Random", "  2 of 8", "no matched event", "not defined", "0.800"} <= said


def test_a_comparison_in_which_nothing_matched_can_be_drawn(tmp_path: Path) -> None:
    draw_evaluation(evaluation(UNKNOWN), tmp_path / "e.png")
    assert (tmp_path / "e.png").stat().st_size > 0


def test_learning_curves_name_runs_windows_and_references(tmp_path: Path) -> None:
    run = [window(0, 200, -0.1), window(200, 1_500, 0.9)]
    draw_learning_curves({"cold": run, "warm": run}, tmp_path / "l.svg")
    said = texts(tmp_path / "l.svg")
    assert {"cold", "warm", "0–200", "200–1,500", "best possible slate", "random slate"} <= said
    assert "Uplift captured" in said


def test_the_spread_between_seeds_is_named_where_it_is_drawn(tmp_path: Path) -> None:
    spread = window(0, 200, 0.5, uplift_share_sd=0.1)
    draw_learning_curves({"warm": [spread, spread]}, tmp_path / "l.svg")
    title = "Uplift captured (band: ± 1 standard deviation between seeds)"
    assert title in texts(tmp_path / "l.svg")


def test_more_runs_than_colours_can_be_drawn(tmp_path: Path) -> None:
    runs = {f"run {number}": [window(0, 200, number / 9)] for number in range(9)}
    draw_learning_curves(runs, tmp_path / "l.svg")
    assert {"run 0", "run 8"} <= texts(tmp_path / "l.svg")


def test_runs_that_cannot_be_drawn_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_learning_curves({}, tmp_path / "l.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_learning_curves({"empty": []}, tmp_path / "l.png")
    different = {"a": [window(0, 200, 0.1)], "b": [window(0, 500, 0.1)]}
    with pytest.raises(ValueError, match="different windows"):
        draw_learning_curves(different, tmp_path / "l.png")
