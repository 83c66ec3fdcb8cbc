from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from producer.history import HistoryError, read_history
from shared.events import Outcome

FEATURES: Final = ("is_weekend", "age")
AT: Final = datetime(2026, 11, 24, 7, tzinfo=UTC)
HEADER: Final = "event_id,age,is_weekend,product_id,response\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "history.csv"
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path) -> list[Outcome]:
    return list(read_history(path, FEATURES, "encoder", AT))


def refusal(path: Path) -> str:
    with pytest.raises(HistoryError) as caught:
        read(path)
    return str(caught.value)


def test_an_event_of_the_past_is_an_outcome_of_rank_1(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "1,0.25,1.0,189,1\n2,0.1,0.0,42,0\n")
    first, second = read(path)
    assert first == Outcome(
        outcome_id="history-1:1",
        decision_id="history-1",
        product_id=189,
        rank=1,
        reward=1.0,
        x=[1.0, 0.25],
        encoder_id="encoder",
        decided_at=AT,
        resolved_at=AT,
    )
    assert (second.outcome_id, second.product_id, second.reward) == ("history-2:1", 42, 0.0)


def test_x_follows_the_encoders_order_and_not_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, "response,is_weekend,note,product_id,age,event_id\n1,1,a,7,0.25,3\n")
    [outcome] = read(path)
    assert outcome.x == [1.0, 0.25]
    assert (outcome.outcome_id, outcome.product_id) == ("history-3:1", 7)


def test_a_mark_before_the_first_column_is_no_part_of_its_name(tmp_path: Path) -> None:
    [outcome] = read(written(tmp_path, "\ufeff" + HEADER + "1,0.25,1.0,189,1\n"))
    assert outcome.outcome_id == "history-1:1"


def test_reading_it_twice_gives_the_same_outcomes(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "".join(f"{i},0.{i},0,{i},0\n" for i in range(1, 9)))
    assert read(path) == read(path)
    assert len({outcome.outcome_id for outcome in read(path)}) == 8


def test_numbers_keep_every_bit(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + f"1,{1 / 3!r},{0.1 + 0.2!r},189,1\n")
    assert read(path)[0].x == [0.1 + 0.2, 1 / 3]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    assert refusal(path) == f"can't read {path}: No such file or directory"


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("event_id,age,product_id,response\n", "is_weekend"),
        ("age,is_weekend,product_id\n", "event_id, response"),
        ("", "event_id, product_id, response, is_weekend, age"),
    ],
)
def test_missing_columns_are_named(tmp_path: Path, header: str, missing: str) -> None:
    path = written(tmp_path, header)
    assert refusal(path) == f"{path} has no column {missing}"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("2,young,0,42,0", "'young'"),
        ("2,0.5,,42,0", "''"),
        ("2.5,0.5,0,42,0", "'2.5'"),
        ("2,0.5,0,pizza,0", "'pizza'"),
        ("2,0.5,0,42,yes", "'yes'"),
        ("2,0.5,0,42,nan", "the response nan is not in [0, 1]"),
        ("2,0.5,0,42,5", "the response 5 is not in [0, 1]"),
        ("2,nan,0,42,1", "a number that is not finite"),
        ("2,0.5,-inf,42,1", "a number that is not finite"),
        ("2,0.5,0", "fewer cells than the header"),
    ],
)
def test_a_line_that_holds_something_else_is_named_by_its_number(
    tmp_path: Path, row: str, what: str
) -> None:
    path = written(tmp_path, HEADER + f"1,0.5,0,42,0\n{row}\n")
    message = refusal(path)
    assert message.startswith(f"{path}, line 3: ")
    assert what in message


@pytest.mark.parametrize("again", ["1", "01"])
def test_an_event_id_that_another_row_has_is_refused_as_the_trainer_would_drop_the_row(
    tmp_path: Path, again: str
) -> None:
    path = written(tmp_path, HEADER + f"1,0.5,0,42,0\n2,0.5,0,42,0\n{again},0.5,0,43,1\n")
    assert refusal(path) == (
        f"{path}, line 4: event_id 1 was another row's: give each row a number of its own"
    )


def test_a_product_that_there_is_not_is_named_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "1,0.5,0,42,0\n2,0.5,0,9999,0\n")
    assert [outcome.product_id for outcome in read(path)] == [42, 9999]
    with pytest.raises(HistoryError) as caught:
        list(read_history(path, FEATURES, "encoder", AT, {42}))
    assert str(caught.value) == f"{path}, line 3: there is no product 9999"


def test_what_comes_before_a_bad_line_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "1,0.5,0,42,0\n2,young,0,42,0\n")
    outcomes = read_history(path, FEATURES, "encoder", AT)
    assert next(outcomes).product_id == 42
    with pytest.raises(HistoryError):
        next(outcomes)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"event_id\n" + b"x" * 200_000 + b"\n"])
def test_a_file_that_is_no_text_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes(content)
    with pytest.raises(HistoryError, match=r"history\.csv"):
        list(read_history(path, ["event_id"], "e", datetime(2026, 1, 5, tzinfo=UTC)))
