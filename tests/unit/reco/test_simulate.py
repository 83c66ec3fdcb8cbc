"""`reco simulate` in a shop of one's own."""

from pathlib import Path

import pytest

from shared.catalogue import load_data
from tests.own_shop import write_folder
from tests.unit.reco.command_line import Reco


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three products, and a history with an event of each."""
    folder = write_folder(tmp_path / "own")
    data = load_data(folder)
    x = ["0.5"] * data.encoder.d
    lines = [["event_id", *data.encoder.features, "product_id", "response"]]
    lines += [[str(n), *x, str(arm), str(n % 2)] for n, arm in enumerate(data.arms)]
    (folder / "history.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    return folder


def test_a_shop_of_ones_own_is_simulated_after_its_own_history(reco: Reco, own: Path) -> None:
    line = ("simulate", "--data", own, "--warm", "--seeds", 2, "--visits", 5, "--json")
    [window] = reco(*line).json()["windows"]
    assert window["click_rate"] == pytest.approx(window["click_rate_best"])
    assert window["uplift_share"] == 0.0  # all that there is fits a slate


def test_a_history_of_a_product_that_there_is_not_is_refused_in_one_sentence(
    reco: Reco, own: Path
) -> None:
    history = own / "history.csv"
    history.write_text(history.read_text().replace(",102,", ",9999,"))
    result = reco("simulate", "--data", own, "--warm", "--seeds", 1, "--visits", 5)
    assert result.code == 2
    assert result.err == (
        f"reco simulate: {history}, line 3: there is no product 9999; `reco prepare` writes one, "
        "and without --warm none is needed\n"
    )
