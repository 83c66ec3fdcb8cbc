import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import reco
from reco.commands.evaluate import command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder as `reco prepare` leaves it, with 100 events of 8 products."""
    rng = np.random.default_rng(11)
    rows = [
        f"{event},{rng.random():.4f},{rng.random():.4f},{rng.integers(1, 9)},{int(event % 3 == 0)}"
        for event in range(1, 101)
    ]
    header = "event_id,age,is_weekend,product_id,response"
    (tmp_path / "history.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    products = [f"{product},{product / 8}" for product in range(1, 9)]
    (tmp_path / "product_features.csv").write_text("\n".join(["product_id,price", *products]))
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_table_shows_matched_events_and_an_interval_beside_each_ctr(data: Path) -> None:
    result = run("--data", data)
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if "ClustersTS" in line)
    policy, auc, ctr, interval, matched, precision, recall = row.strip("│").split("│")
    assert policy.strip() == "ClustersTS"
    low, high = (float(bound) for bound in interval.split("–"))
    assert low < float(ctr) < high
    assert 0 < int(matched) <= 20
    assert all(0 <= float(cell) <= 1 for cell in (auc, precision, recall))
    assert "of 20" in result.stdout


def test_progress_names_the_policies_on_standard_error(data: Path) -> None:
    result = run("--data", data)
    assert "LinTS (5 of 6)" in result.stderr
    assert "LinTS (5 of 6)" not in result.stdout


def test_json_without_a_file_is_all_that_standard_output_gets(data: Path) -> None:
    result = run("--data", data, "--json")
    assert "95 % interval" in result.stderr
    figures = json.loads(result.stdout)
    assert {name: figures[name] for name in ("events", "train_events", "test_events", "k")} == {
        "events": 100,
        "train_events": 80,
        "test_events": 20,
        "k": 5,
    }
    assert figures["seed"] == 1237
    assert [policy["policy"] for policy in figures["policies"]] == [
        "Random",
        "Popularity",
        "LinGreedy",
        "LinUCB",
        "LinTS",
        "ClustersTS",
    ]
    first = figures["policies"][0]
    assert first["ctr"] == pytest.approx(first["ctr_clicks"] / first["ctr_matched_events"])
    assert first["ctr_interval"][0] < first["ctr"] < first["ctr_interval"][1]


def test_json_and_plot_go_to_the_files_named_and_the_table_is_still_shown(
    data: Path, tmp_path: Path
) -> None:
    result = run("--data", data, "--json", tmp_path / "r.json", "--plot", tmp_path / "p.png")
    assert "Popularity" in result.stdout
    assert json.loads((tmp_path / "r.json").read_text())["test_events"] == 20
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_files_of_the_users_own_take_the_place_of_the_prepared_ones(
    data: Path, tmp_path: Path
) -> None:
    (data / "history.csv").rename(tmp_path / "log.csv")
    (data / "product_features.csv").rename(tmp_path / "products.csv")
    files = ("--history", tmp_path / "log.csv", "--product-features", tmp_path / "products.csv")
    assert run("--data", tmp_path / "absent", *files).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "absent"], "can't read absent/history.csv"),
        (["--history", "{data}/product_features.csv"], "has no column event_id"),
        (["--plot", "{data}/plot.bmp"], "does not end in .png, .svg, .pdf"),
        (["--plot", "{data}/absent/plot.png"], "is in a folder that does not exist"),
        (["--json", "{data}"], "is a folder: name a file"),
        (["--seed", "-1"], "-1 is not in the range"),
        (["--seed", "4294967296"], "give a seed of at most 4294967295"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    data: Path, arguments: list[str], said: str
) -> None:
    result = run("--data", data, *(argument.format(data=data) for argument in arguments))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_without_mab2rec_it_says_which_extra_to_install(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("reco.evaluation", "mab2rec.pipeline", "mab2rec"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr(reco, "evaluation", raising=False)
    monkeypatch.setitem(sys.modules, "mab2rec", None)
    result = run("--data", data)
    assert result.exit_code == 2
    assert "package mab2rec is missing: install the extra eval" in result.stderr


def test_the_help_ends_with_an_example() -> None:
    assert "reco evaluate --plot evaluation.png" in run("--help").stdout
