import csv
import json
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from click.testing import CliRunner, Result

from producer.menu_features import catalogue
from producer.prepare import EVENTS, Summary, prepare
from reco.commands.prepare import command
from shared.catalogue import DataError, Product, load_data
from shared.features import CONTEXT_FEATURES

SEED: Final = 1237
DIGESTS: Final = {
    "encoder.json": "37a66ad779666712",
    "history.csv": "fbd46cdd0884f603",
    "product_features.csv": "c808c742dfce32d9",
    "products.csv": "bd71720b5d5bcac3",
    "text_model.json": "5dae62765c7af9c0",
    "user_features.csv": "01a45c408107b94b",
    "users.csv": "128a33cb238163b5",
}
"""SHA-256 of the files of seed 1237. A new Faker, or a new menu, may change them: say so then, as
published figures are those of this data."""
FILES: Final = sorted(DIGESTS)
CATEGORIES: Final = [
    "Appetizers & Sides",
    "Aussie Pub Classics",
    "Burgers & Sandwiches",
    "Drinks & Desserts",
    "Mexican Specialties",
    "Pasta & Risotto",
    "Pizzas",
    "Salads & Healthy Options",
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    """A prepared folder, and what was said about it."""
    folder = tmp_path_factory.mktemp("data")
    return folder, prepare(folder, SEED)


@pytest.fixture
def folder(prepared: tuple[Path, Summary]) -> Path:
    """A prepared folder: only to be read."""
    return prepared[0]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_writes_its_files_and_leaves_no_drafts(folder: Path) -> None:
    assert sorted(contents(folder)) == FILES


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    prepare(tmp_path, SEED)
    assert contents(tmp_path) == contents(folder)


def test_the_published_seed_gives_the_published_bytes(folder: Path) -> None:
    digests = {name: sha256(text).hexdigest()[:16] for name, text in contents(folder).items()}
    assert digests == DIGESTS


def test_another_seed_gives_other_users_and_history_but_the_same_menu(
    folder: Path, tmp_path: Path
) -> None:
    prepare(tmp_path, SEED + 1)
    ours, others = contents(folder), contents(tmp_path)
    same = {name for name in FILES if ours[name] == others[name]}
    assert {"products.csv", "product_features.csv"} <= same
    assert not same & {"users.csv", "user_features.csv", "history.csv"}


def test_what_was_there_is_replaced_whole(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("something longer " * 100_000)
    prepare(tmp_path, SEED)
    assert contents(tmp_path) == contents(folder)


def test_lines_end_the_same_on_every_platform(folder: Path) -> None:
    for name, text in contents(folder).items():
        assert b"\r" not in text, name
        assert text.endswith(b"\n"), name


def test_what_is_prepared_loads(folder: Path) -> None:
    data = load_data(folder)
    assert (len(data.products), len(data.users), data.encoder.d) == (200, 1_000, 15)
    assert data.products == catalogue()


def test_the_summary_counts_what_the_files_hold(prepared: tuple[Path, Summary]) -> None:
    folder, summary = prepared
    clicks = sum(int(row["response"]) for row in rows_of(folder / "history.csv"))
    encoder = load_data(folder).encoder
    assert summary == Summary(200, 8, 1_000, EVENTS, clicks, clicks / EVENTS, encoder.id)


def test_the_average_click_rate_is_that_of_the_world(prepared: tuple[Path, Summary]) -> None:
    assert 0.13 < prepared[1].click_rate < 0.143


def test_the_menu_has_two_hundred_products_in_eight_categories() -> None:
    products = catalogue()
    assert [product.product_id for product in products] == list(range(1, 201))
    assert sorted({product.category for product in products}) == CATEGORIES
    assert len({product.name for product in products}) == 200
    assert all(product.price > 0 for product in products)


@pytest.mark.parametrize(
    ("product_id", "name", "category", "price"),
    [
        (8, "The Aussie Burger", "Burgers & Sandwiches", 16.99),
        (42, "The Aussie Pizza", "Pizzas", 23.99),
        (61, "Chicken Parma", "Aussie Pub Classics", 24.99),
        (101, "Fish Tacos (Baja Style)", "Mexican Specialties", 12.95),
    ],
)
def test_some_products_are_fixed(product_id: int, name: str, category: str, price: float) -> None:
    assert catalogue()[product_id - 1] == Product(product_id, name, category, price, False)


def test_the_coffees_are_189_to_194() -> None:
    coffees = {product.product_id: product for product in catalogue() if product.is_coffee}
    assert sorted(coffees) == [189, 190, 191, 192, 193, 194]
    assert {product.category for product in coffees.values()} == {"Drinks & Desserts"}
    names = [coffees[product_id].name for product_id in (189, 192, 194)]
    assert names == ["Flat White", "Long Black", "Iced Chocolate"]


def test_history_has_exactly_these_columns(folder: Path) -> None:
    header = (folder / "history.csv").read_text().split("\n", 1)[0].split(",")
    assert header == ["event_id", *CONTEXT_FEATURES, "product_id", "response"]


def test_history_counts_its_events_and_draws_every_product_about_equally(folder: Path) -> None:
    rows = rows_of(folder / "history.csv")
    assert [int(row["event_id"]) for row in rows] == list(range(1, 10_001))
    assert {row["response"] for row in rows} == {"0", "1"}
    shown = np.bincount([int(row["product_id"]) for row in rows], minlength=201)
    assert shown[0] == 0
    assert 20 < shown[1:].min() <= shown[1:].max() < 90


def test_history_goes_through_four_weeks_in_order(folder: Path) -> None:
    # In the order of time the days come in 28 runs, so the weekend starts and ends few times.
    weekend = [row["is_weekend"] for row in rows_of(folder / "history.csv")]
    assert sum(before != after for before, after in pairwise(weekend)) == 7
    assert weekend.count("1.0") / EVENTS == pytest.approx(2 / 7, abs=0.02)


def test_every_context_is_within_0_and_1_with_one_of_each_kind(folder: Path) -> None:
    rows = rows_of(folder / "history.csv")
    X = np.array([[float(row[name]) for name in CONTEXT_FEATURES] for row in rows])
    assert ((X >= 0) & (X <= 1)).all()
    assert (X[:, 3:5].sum(axis=1) == 1).all()  # gender
    assert (X[:, 5:10].sum(axis=1) == 1).all()  # traffic source
    assert (X[:, 10:13].sum(axis=1) <= 1).all()  # part of the day; the night is none
    assert (X[:, 13:15].sum(axis=1) == 1).all()  # weekend or weekday


def test_clicks_follow_the_hidden_rules(folder: Path) -> None:
    rows = rows_of(folder / "history.csv")
    treats = {
        product.product_id
        for product in catalogue()
        if product.category in ("Pizzas", "Burgers & Sandwiches")
    }

    def rate(weekend: str, treat: bool) -> float:
        responses = [
            int(row["response"])
            for row in rows
            if row["is_weekend"] == weekend and (int(row["product_id"]) in treats) == treat
        ]
        return sum(responses) / len(responses)

    assert rate("1.0", True) > 2 * max(rate("1.0", False), rate("0.0", True), rate("0.0", False))


def test_ages_span_12_to_70_and_search_brings_most_users(folder: Path) -> None:
    users = load_data(folder).users
    assert [user.user_id for user in users] == list(range(1, 1_001))
    assert {user.gender for user in users} == {"F", "M"}
    assert (min(user.age for user in users), max(user.age for user in users)) == (12, 70)
    sources = [user.traffic_source for user in users]
    assert sources.count("Search") / 1_000 == pytest.approx(0.70, abs=0.05)
    assert sources.count("Organic") / 1_000 == pytest.approx(0.15, abs=0.04)


def test_users_live_in_australia(folder: Path) -> None:
    for user in load_data(folder).users:
        assert -44 < user.latitude < -10
        assert 113 < user.longitude < 154
        assert user.name
        assert user.city


def test_user_features_are_what_the_encoder_says_of_the_user(folder: Path) -> None:
    rows = rows_of(folder / "user_features.csv")
    assert list(rows[0]) == ["user_id", *CONTEXT_FEATURES[:10]]
    data = load_data(folder)
    least, most = data.encoder.ranges["age"]
    for user, row in zip(data.users, rows, strict=True):
        assert int(row["user_id"]) == user.user_id
        assert float(row["age"]) == (user.age - least) / (most - least)
        assert float(row[f"gender_{user.gender}"]) == 1.0
        assert float(row[f"traffic_source_{user.traffic_source}"]) == 1.0
        assert sum(map(float, list(row.values())[4:])) == 2.0


def test_product_features_are_numbers_only(folder: Path) -> None:
    rows = rows_of(folder / "product_features.csv")
    texts = [f"text_{number}" for number in range(10)]
    names = [f"category_{category}" for category in CATEGORIES]
    assert list(rows[0]) == ["product_id", *texts, *names, "is_coffee", "price"]
    prices = [float(row["price"]) for row in rows]
    assert (min(prices), max(prices)) == (0.0, 1.0)
    for product, row in zip(catalogue(), rows, strict=True):
        assert int(row["product_id"]) == product.product_id
        assert [name for name in names if row[name] == "1"] == [f"category_{product.category}"]
        assert row["is_coffee"] == str(int(product.is_coffee))
        assert all(np.isfinite(float(value)) for value in row.values())


def test_similar_products_have_similar_text_components(folder: Path) -> None:
    rows = rows_of(folder / "product_features.csv")
    T = np.array([[float(row[f"text_{number}"]) for number in range(10)] for row in rows])
    T /= np.linalg.norm(T, axis=1, keepdims=True)
    similarity = T @ T.T
    categories = np.array([product.category for product in catalogue()])
    same = categories[:, None] == categories[None, :]
    assert similarity[same].mean() > 0.5 + similarity[~same].mean()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_command_prints_the_counts_and_the_click_rate(tmp_path: Path) -> None:
    result = run("--seed", SEED, "--out", tmp_path / "new" / "data")
    assert result.exit_code == 0, result.output
    for part in ("200 products in 8 categories", "1,000 users", "10,000 events", "click rate 1"):
        assert part in result.stdout
    assert sorted(contents(tmp_path / "new" / "data")) == FILES


def test_the_command_writes_the_counts_as_json(tmp_path: Path) -> None:
    result = run("--out", tmp_path / "data", "--json", tmp_path / "counts.json")
    assert result.exit_code == 0, result.output
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["events"] == EVENTS
    assert counts["click_rate"] == counts["clicks"] / EVENTS


def test_a_file_in_the_place_of_the_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    for out in (tmp_path / "data", tmp_path / "data" / "below"):
        result = run("--out", out)
        assert result.exit_code == 2
        assert f"{out} is not a folder; choose another" in result.stderr
        assert "Traceback" not in result.stderr
    assert (tmp_path / "data").read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_is_refused_without_leaving_a_draft(tmp_path: Path) -> None:
    (tmp_path / "products.csv").mkdir()
    with pytest.raises(DataError, match=r"can't write .*products\.csv: Is a directory"):
        prepare(tmp_path, SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["products.csv"]
