import csv
import io
from pathlib import Path
from typing import Final

import pytest

from shared.catalogue import DataError, Product, User, load_data
from shared.features import GENDERS, TRAFFIC_SOURCES, Encoder

PRODUCTS: Final = """\
product_id,name,category,price,is_coffee
8,The Aussie Burger,Burgers & Sandwiches,16.99,0
101,Fish Tacos (Baja Style),Mexican Specialties,12.95,0
189,"Flat White, Large",Drinks & Desserts,4.9,1
"""
FEATURES: Final = """\
product_id,text_0,is_coffee,price
189,0.25,1,0
8,0.5,0,1
101,-0.5,0,0.666
"""
USERS: Final = """\
user_id,name,city,age,gender,latitude,longitude,traffic_source
1,Zoë Müller,Wagga Wagga,23,F,-35.10,147.37,Search
2,John Smith,Perth,61,M,-31.95,115.86,Email
"""
ENCODER: Final = Encoder(
    {"age": (12.0, 70.0), "latitude": (-44.0, -10.0), "longitude": (113.0, 154.0)},
    {"gender": list(GENDERS), "traffic_source": list(TRAFFIC_SOURCES)},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small data folder."""
    (tmp_path / "products.csv").write_text(PRODUCTS, encoding="utf-8")
    (tmp_path / "product_features.csv").write_text(FEATURES, encoding="utf-8")
    (tmp_path / "users.csv").write_text(USERS, encoding="utf-8")
    (tmp_path / "encoder.json").write_bytes(ENCODER.to_json())
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_data(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(f"prepare it with `reco prepare --out {folder}`")
    return message


def test_a_folder_is_read_into_types(folder: Path) -> None:
    data = load_data(folder)
    assert data.products == [
        Product(8, "The Aussie Burger", "Burgers & Sandwiches", 16.99, False),
        Product(101, "Fish Tacos (Baja Style)", "Mexican Specialties", 12.95, False),
        Product(189, "Flat White, Large", "Drinks & Desserts", 4.9, True),
    ]
    assert data.users == [
        User(1, "Zoë Müller", "Wagga Wagga", 23, "F", -35.10, 147.37, "Search"),
        User(2, "John Smith", "Perth", 61, "M", -31.95, 115.86, "Email"),
    ]
    assert data.encoder.id == ENCODER.id


def test_further_columns_and_another_order_of_columns_do_no_harm(folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(PRODUCTS)))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["note", *reversed(list(rows[0]))])
    writer.writeheader()
    writer.writerows({**row, "note": "new"} for row in rows)
    (folder / "products.csv").write_text(text.getvalue(), encoding="utf-8")
    assert [product.product_id for product in load_data(folder).products] == [8, 101, 189]


def test_features_stand_in_the_catalogues_order(folder: Path) -> None:
    features = load_data(folder).features
    assert features.tolist() == [[0.5, 0.0, 1.0], [-0.5, 0.0, 0.666], [0.25, 1.0, 0.0]]


@pytest.mark.parametrize(
    "name", ["products.csv", "users.csv", "encoder.json", "product_features.csv"]
)
def test_a_missing_file_is_named_in_one_sentence(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert f"can't read {folder / name} (No such file or directory)" in refusal(folder)


def test_a_folder_in_the_place_of_a_file_is_named_in_one_sentence(folder: Path) -> None:
    (folder / "users.csv").unlink()
    (folder / "users.csv").mkdir()
    assert f"can't read {folder / 'users.csv'} (Is a directory)" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("products.csv", "101,", "8,", "an id twice"),
        ("products.csv", PRODUCTS.split("\n", 1)[1], "", "no rows"),
        ("products.csv", "16.99", "cheap", "price"),
        ("products.csv", "price", "cost", "price"),
        ("products.csv", "101,", f"{2**53},", f"the product_id {2**53}: ids from 1"),
        ("products.csv", "101,", "-1,", "the product_id -1: ids from 1"),
        ("users.csv", "115.86", "nan", "a place that is no finite number"),
        ("users.csv", "-31.95", "-inf", "a place that is no finite number"),
        ("users.csv", "2,John", "1,John", "an id twice"),
        ("users.csv", USERS, "", "no rows"),
        ("users.csv", "61", "", "age"),
        ("users.csv", ",61,M,-31.95,115.86,Email", "", "age"),
        ("product_features.csv", "101,", "102,", "no features of product 101"),
        ("product_features.csv", "product_id", "id", "product_id as its first column"),
        ("product_features.csv", "0.25,1,0", "0.25,1", "product_id as its first column"),
        ("product_features.csv", "0.666", "nan", "no finite number"),
        ("product_features.csv", "0.666", "-inf", "no finite number"),
        ("product_features.csv", "0.666", "-1e7", "beyond ±1,000,000"),
        ("product_features.csv", "0.666", "dear", "could not convert"),
        ("product_features.csv", FEATURES, "", "is empty"),
        ("encoder.json", '"id":', '"id"', "JSON is malformed"),
        ("encoder.json", "70.0", "71.0", "id does not match"),
        ("encoder.json", '"format": 1', '"format": 2', "encoder of format 2"),
    ],
)
def test_a_broken_file_is_named_in_one_sentence_that_says_why(
    folder: Path, name: str, old: str, new: str, why: str
) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")
    message = refusal(folder)
    assert str(folder / name) in message
    assert why in message


def test_what_spreadsheets_and_editors_add_does_no_harm(folder: Path) -> None:
    plain = load_data(folder)
    for name in ("products.csv", "users.csv", "product_features.csv"):
        path = folder / name
        path.write_text("\ufeff" + path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    marked = load_data(folder)
    assert (marked.products, marked.users) == (plain.products, plain.users)
    assert marked.features.tolist() == plain.features.tolist()


def test_a_file_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "users.csv").write_bytes(USERS.encode("utf-16"))
    assert "users.csv is not as it should be" in refusal(folder)
