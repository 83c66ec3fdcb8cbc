from pathlib import Path

import pandas as pd
import pytest

from reco.evaluation_data import (
    UnusableData,
    check_products_known,
    context_columns,
    read_history,
    read_product_features,
)

HISTORY = """event_id,age,is_rainy,product_id,response
1,0.25,True,10,0
2,0.50,False,11,1
3,0.75,True,10,0
"""


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(UnusableData) as refused:
        read_history(file(tmp_path, text))
    return str(refused.value)


def test_every_column_but_the_three_named_ones_is_context_in_file_order(tmp_path: Path) -> None:
    history = read_history(file(tmp_path, HISTORY))
    assert context_columns(history) == ["age", "is_rainy"]
    assert history["is_rainy"].tolist() == [1, 0, 1]
    assert history["response"].tolist() == [0, 1, 0]


def test_identifiers_are_text_whether_written_as_whole_numbers_or_not(tmp_path: Path) -> None:
    whole = read_history(file(tmp_path, HISTORY))
    fractional = read_history(file(tmp_path, HISTORY.replace(",10,", ",10.0,")))
    assert whole["product_id"].tolist() == fractional["product_id"].tolist() == ["10", "11", "10"]


def test_identifiers_that_are_not_numbers_are_kept_with_their_zeros(tmp_path: Path) -> None:
    history = read_history(file(tmp_path, HISTORY.replace(",10,", ",A-1.0,")))
    assert history["product_id"].tolist() == ["A-1.0", "11", "A-1.0"]
    history = read_history(file(tmp_path, HISTORY.replace(",10,", ",007,")))
    assert history["product_id"].tolist() == ["007", "11", "007"]


def test_numbers_are_those_that_pandas_reads_by_default(tmp_path: Path) -> None:
    path = file(tmp_path, HISTORY.replace("0.25", "0.080107758720942"))
    assert read_history(path)["age"].tolist() == pd.read_csv(path)["age"].tolist()


def test_blanks_around_the_names_in_the_header_do_not_matter(tmp_path: Path) -> None:
    text = HISTORY.replace("product_id", " product_id ").replace("event_id", "event_id ")
    assert context_columns(read_history(file(tmp_path, text))) == ["age", "is_rainy"]


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UnusableData, match=r"absent\.csv .*No such file.*reco prepare"):
        read_history(tmp_path / "absent.csv")


UNUSABLE = {
    "is empty": "",
    "has a header but no rows": "event_id,age,product_id,response\n",
    "has no column product_id": HISTORY.replace("product_id", "product"),
    "has no column response": HISTORY.replace("response", "clicked"),
    "has no context": "event_id,product_id,response\n1,2,0\n",
    "has the column age twice": HISTORY.replace("is_rainy", "age"),
    "column 3 has no name": HISTORY.replace("is_rainy", ""),
    "is not a readable CSV file": HISTORY + "4,0.1,True,10,0,9,9\n",
    "more fields than the header": HISTORY.replace(",0\n", ",0,7\n").replace(",1\n", ",1,7\n"),
    "data row 2: age is 'old', not a finite number": HISTORY.replace("0.50", "old"),
    "data row 2: age is inf, not a finite number": HISTORY.replace("0.50", "inf"),
    "data row 2: age is empty": HISTORY.replace("0.50", ""),
    "data row 2: age is empty or not a number": HISTORY.replace("0.50", "nan"),
    "data row 2: product_id is empty": HISTORY.replace("11,1", ",1"),
    "data row 2: response must be 1 (clicked) or 0": HISTORY.replace("11,1", "11,2"),
    "data row 2: response is 'yes'": HISTORY.replace("11,1", "11,yes"),
    "data row 3: the event_id 1 comes a second time": HISTORY.replace("\n3,", "\n1,"),
}


@pytest.mark.parametrize(("said", "text"), UNUSABLE.items(), ids=UNUSABLE)
def test_an_unusable_history_is_refused_in_one_sentence(
    tmp_path: Path, said: str, text: str
) -> None:
    sentence = refusal(tmp_path, text)
    assert said in sentence
    assert str(tmp_path) in sentence
    assert "\n" not in sentence


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\xff\xfe,\x00\x01\n")
    with pytest.raises(UnusableData, match="is not a readable CSV file"):
        read_history(path)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableData, match="Is a directory"):
        read_history(tmp_path)


def test_a_product_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableData, match="the product_id 5 comes a second time"):
        read_product_features(file(tmp_path, "product_id,price\n5,0.1\n5,0.2\n"))


def test_product_features_must_be_numbers(tmp_path: Path) -> None:
    with pytest.raises(UnusableData, match="name is 'Tea', not a finite number"):
        read_product_features(file(tmp_path, "product_id,name\n5,Tea\n"))
    with pytest.raises(UnusableData, match="has no features"):
        read_product_features(file(tmp_path, "product_id\n5\n"))


def test_products_without_features_are_named(tmp_path: Path) -> None:
    history = read_history(file(tmp_path, HISTORY))
    features = read_product_features(file(tmp_path, "product_id,price\n10,0.1\n"))
    with pytest.raises(UnusableData, match=r"1 of the 2 products .* \(11\): add a row"):
        check_products_known(history, features)
