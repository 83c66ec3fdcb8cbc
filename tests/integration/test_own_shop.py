"""docs/adopting.md: the composed system with a catalogue and an encoder that are not ours."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from reco.catalogue_feed import catalogue_with, features_of
from shared.catalogue import load_data
from tests.integration.command import reco_with
from tests.integration.compose import Stack, require_compose
from tests.own_shop import write_folder
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("compose"), pytest.mark.timeout(600)]

VISITOR = {
    "age": 23,
    "gender": "F",
    "latitude": 50.8,
    "longitude": 7.0,
    "traffic_source": "Newsletter",
    "occurred_at": "2026-01-26T07:29:00",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's program writes, and two events of the past."""
    folder = write_folder(tmp_path_factory.mktemp("shop") / "data")
    features = load_data(folder).encoder.features
    x = ["0.5"] * len(features)
    rows = [["event_id", *features, "product_id", "response"], ["1", *x, "101", "1"]]
    rows.append(["2", *x, "102", "0"])
    (folder / "history.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    folder.chmod(0o755)  # the containers' user looks in
    return folder


@pytest.fixture(scope="module")
def shop(folder: Path) -> Iterator[Stack]:
    """As the page says what to write into `.env`."""
    require_compose()
    stack = Stack(f"reco-test-own-{os.getpid()}")
    stack.environment |= {
        "RECO_DATA": str(folder),
        "RECO_MODEL": "shop",
        "RECO_PRODUCERS": "0",
        "RECO_SERVE_STREAM": "false",
    }
    try:
        stack.up("--build")
        yield stack
    finally:
        stack.remove()


def test_a_shop_of_ones_own_is_ranked_clicked_and_replayed(shop: Stack, folder: Path) -> None:
    assert shop.containers("producer") == []
    features = load_data(folder).encoder.features
    with httpx.Client(base_url=shop.http, timeout=30.0) as client:
        ranked = client.post("/v1/rank", json={"context": VISITOR}).raise_for_status().json()
        assert {each["product_id"] for each in ranked["slate"]} == {101, 102, 103, 104}
        click = {"product_id": ranked["slate"][0]["product_id"]}
        path = f"/v1/decisions/{ranked['decision_id']}/click"
        client.post(path, json=click).raise_for_status()
        shop.reco("produce", "--history", "/own/data/history.csv")

        def learned() -> bool:
            arm = client.get(f"/v1/arms/{click['product_id']}")
            return bool(arm.status_code == httpx.codes.OK and arm.json()["clicks"])

        until(learned, "the click learned")
        arm = client.get("/v1/arms/101").raise_for_status().json()
        assert [each["feature"] for each in arm["coefficients"]] == [*features]

    def replayed() -> str:
        return shop.run("run", "--rm", "-T", "reco", "replay", "--check", check=False)

    until(lambda: "over 3 outcomes" in replayed(), "all learned")
    assert "✓ 0 differing bits" in shop.reco("replay", "--check")
    assert shop.reco("status").startswith("healthy")
    shown = msgspec.json.decode(shop.reco("inspect", "arm", "101", "--json"))
    assert list(shown["theta"]) == [*features]
    strongest = msgspec.json.decode(shop.reco("inspect", "model", "--json"))["strongest"]
    assert {weight["context"] for weight in strongest} <= {*features}


def test_products_are_added_in_a_container_and_from_the_host_with_the_shops_own_data(
    shop: Stack, folder: Path, tmp_path: Path
) -> None:
    as_the_rake = "product_id,name,category,price,is_coffee\n{},{},Garden,17.0,0\n"
    (folder / "new.csv").write_text(as_the_rake.format(105, "Spade"))
    shop.reco("products", "add", "/own/data/new.csv")
    told = shop.from_host()
    assert told["RECO_DATA"] == str(folder)
    reco, new = reco_with(told), tmp_path / "new.csv"
    new.write_text(as_the_rake.format(106, "Hoe"))
    added = reco("products", "add", new)
    assert added.code == 0, added.err
    data = load_data(folder)
    catalogue = catalogue_with([105, 106], data, told["RECO_KAFKA"], 30.0)
    rake, spade, hoe = features_of(catalogue, data, [104, 105, 106]).tolist()
    assert spade == hoe == rake
    retired = reco("products", "retire", 105, 106)
    assert retired.code == 0, retired.err
