"""Files with new products: what they need, what they may say, and what is refused."""

from pathlib import Path

import pytest

from producer.new_products import BadProducts, FeatureMaker, read_new_products
from shared.catalogue import DataSet, Product

HEADER = "product_id,name,category,price,is_coffee"


@pytest.fixture
def maker(data_folder: Path, data: DataSet) -> FeatureMaker:
    return FeatureMaker(data_folder, data.products)


def write(folder: Path, text: str) -> Path:
    path = folder / "new.csv"
    path.write_text(text)
    return path


def test_a_product_gets_the_features_of_its_kind(maker: FeatureMaker, tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\n201,Cold Brew,Drinks & Desserts,6.5,1\n")
    [new] = read_new_products(path, maker)
    assert new.product == Product(201, "Cold Brew", "Drinks & Desserts", 6.5, True)
    assert list(new.features) == maker.names
    assert new.features["category_Drinks & Desserts"] == 1.0
    assert new.features["category_Pizzas"] == 0.0
    assert new.features["is_coffee"] == 1.0
    assert 0.0 < new.features["price"] < 1.0
    assert any(new.features[f"text_{i}"] for i in range(10))


def test_a_prepared_product_would_get_the_features_it_has(
    maker: FeatureMaker, data_folder: Path, data: DataSet
) -> None:
    lines = (data_folder / "product_features.csv").read_text().splitlines()[1:]
    for product, line in zip(data.products, lines, strict=True):
        prepared = [float(cell) for cell in line.split(",")[1:]]
        found = list(maker.features(product).values())
        assert found == pytest.approx(prepared, abs=1.5e-6)


def test_features_that_are_given_win_and_prices_stay_in_range(
    maker: FeatureMaker, tmp_path: Path
) -> None:
    text = f"{HEADER},text_3,price_note\n201,Truffle,Truffles,900,0,0.75,dear\n"
    [new] = read_new_products(write(tmp_path, text), maker)
    assert new.features["text_3"] == 0.75
    assert new.features["price"] == 1.0
    assert not any(new.features[name] for name in maker.names if name.startswith("category_"))


def test_a_mark_before_the_first_column_is_no_part_of_its_name(
    maker: FeatureMaker, tmp_path: Path
) -> None:
    text = f"\ufeff{HEADER}\n201,Cold Brew,Drinks & Desserts,6.5,1\n"
    assert [new.product.product_id for new in read_new_products(write(tmp_path, text), maker)] == [
        201
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no rows"),
        (f"{HEADER}\n", "no rows"),
        (f"{HEADER}\n201,A,B,5,0\n201,C,D,6,0\n", "twice"),
        (f"{HEADER}\n201,A,B,nan,0\n", "finite"),
        (f"{HEADER}\n0,A,B,5,0\n", "ids from 1"),
        (f"{HEADER}\n{2**53},A,B,5,0\n", f"{2**53 - 1} at most"),
        (f"{HEADER}\n201,A,B,5,maybe\n", "is not as it should be"),
        ("product_id,name\n201,A\n", "needs the columns"),
        (f"{HEADER},text_0\n201,A,B,5,0,inf\n", "finite number"),
        (f"{HEADER},text_0\n201,A,B,5,0,nan\n", "finite number"),
        (f"{HEADER},text_0\n201,A,B,5,0,1e200\n", "beyond ±1,000,000"),
    ],
)
def test_what_is_no_list_of_products_is_refused(
    maker: FeatureMaker, tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(BadProducts, match=complaint):
        read_new_products(write(tmp_path, text), maker)


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ("Evil\x1b[31m Brew,Drinks", "name"),
        ("Brew,Loud\x07", "category"),
        ('"Two\nlines",Drinks', "name"),
        ("Brew\x9b31m,Drinks", "name"),
        ("Brew\u2028,Drinks", "name"),
    ],
)
def test_control_characters_are_refused_with_their_line_and_column_and_not_repeated(
    maker: FeatureMaker, tmp_path: Path, cells: str, column: str
) -> None:
    path = write(tmp_path, f"{HEADER}\n201,Cold Brew,Drinks,6.5,1\n202,{cells},6.5,1\n")
    where = rf"new\.csv, line {3 + cells.count(chr(10))}, .* the column {column} has a control"
    with pytest.raises(BadProducts, match=where) as refused:
        read_new_products(path, maker)
    assert str(refused.value).isprintable()


def test_blanks_that_do_not_break_and_joined_emoji_are_no_control_characters(
    maker: FeatureMaker, tmp_path: Path
) -> None:
    name = "Café\u00a0Noir \U0001f469\u200d\U0001f373"
    [new] = read_new_products(write(tmp_path, f"{HEADER}\n201,{name},Drinks,6.5,1\n"), maker)
    assert new.product.name == name


def test_a_file_that_is_not_there_and_an_old_folder_are_named(
    maker: FeatureMaker, data: DataSet, tmp_path: Path
) -> None:
    with pytest.raises(BadProducts, match="can't read"):
        read_new_products(tmp_path / "none.csv", maker)
    with pytest.raises(BadProducts, match="reco prepare"):
        FeatureMaker(tmp_path, data.products)
