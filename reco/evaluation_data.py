"""Reading a history and product features for `reco.evaluation`, and saying what is wrong with them.

Everything that Mab2Rec would stumble over, or silently take for something else, is refused here
with one sentence that says what to do.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

EVENT_ID: Final = "event_id"
PRODUCT_ID: Final = "product_id"
RESPONSE: Final = "response"


class UnusableData(ValueError):
    """A file can't be evaluated. The message is one sentence and says what to do."""


def read_history(path: Path) -> pd.DataFrame:
    """Read a log of shown products.

    Returns:
        One row an event, in the order of the file (which is taken for time order): `event_id` and
        `product_id` as text, `response` 0 or 1, and every other column as a number of the context.

    Raises:
        UnusableData: no such file, a column is missing, not numeric or has holes, an event id
            comes twice, or a response is neither 0 nor 1.
    """
    history = _read(path, identifiers=[EVENT_ID, PRODUCT_ID], others=[RESPONSE])
    context = context_columns(history)
    if not context:
        raise UnusableData(
            f"{path} has no context: add numeric columns beside "
            f"{EVENT_ID}, {PRODUCT_ID} and {RESPONSE}"
        )
    history = _with_numbers(path, history, [*context, RESPONSE])
    _check_unique(path, history, EVENT_ID)
    unclear = ~history[RESPONSE].isin([0, 1])
    if unclear.any():
        raise UnusableData(
            f"{path}, data row {_first(unclear)}: {RESPONSE} must be 1 (clicked) or 0 (not clicked)"
        )
    return history.astype({RESPONSE: int})


def read_product_features(path: Path) -> pd.DataFrame:
    """Read the products: `product_id` as text, every other column a number.

    Raises:
        UnusableData: no such file, no `product_id`, a column is not numeric or has holes, or a
            product comes twice.
    """
    features = _read(path, identifiers=[PRODUCT_ID], others=[])
    columns = [name for name in features.columns if name != PRODUCT_ID]
    if not columns:
        raise UnusableData(f"{path} has no features: add numeric columns beside {PRODUCT_ID}")
    features = _with_numbers(path, features, columns)
    _check_unique(path, features, PRODUCT_ID)
    return features


def check_products_known(history: pd.DataFrame, product_features: pd.DataFrame) -> None:
    """Every product of the history has features.

    Raises:
        UnusableData: names the first few that have none.
    """
    shown = history[PRODUCT_ID].drop_duplicates()
    unknown = shown[~shown.isin(product_features[PRODUCT_ID])].tolist()
    if unknown:
        named = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        raise UnusableData(
            f"{len(unknown)} of the {len(shown)} products in the history are missing from the "
            f"product features ({named}): add a row for each, or remove their events"
        )


def context_columns(history: pd.DataFrame) -> list[str]:
    """Names of the context's features, in the order of the file."""
    return [name for name in history.columns if name not in (EVENT_ID, PRODUCT_ID, RESPONSE)]


def _read(path: Path, identifiers: Sequence[str], others: Sequence[str]) -> pd.DataFrame:
    """The file as pandas reads numbers by default, but its identifiers as text."""
    try:
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
        names = [str(name).strip() for name in header.iloc[0]]
        _check_header(path, names, [*identifiers, *others])
        text: dict[Hashable, type[str]] = {names.index(name): str for name in identifiers}
        table = pd.read_csv(path, dtype=text, low_memory=False)
    except OSError as error:
        raise UnusableData(
            f"can't read {path} ({error.strerror or error}): make it with `reco prepare`, "
            "or name another file"
        ) from None
    except pd.errors.EmptyDataError:
        raise UnusableData(f"{path} is empty: it needs a header and one row an event") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise UnusableData(f"{path} is not a readable CSV file ({reason}): repair it") from None
    if table.empty:
        raise UnusableData(f"{path} has a header but no rows: add at least one row")
    if not isinstance(table.index, pd.RangeIndex):
        raise UnusableData(f"{path}: the rows have more fields than the header: name every column")
    table.columns = pd.Index(names)
    _check_no_holes(path, table)
    for name in identifiers:
        table[name] = _identifiers(table[name])
    return table


def _check_header(path: Path, names: list[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise UnusableData(
            f"{path} has no column {' and no column '.join(missing)}: "
            f"its header must name {', '.join(required)}"
        )
    if "" in names:
        raise UnusableData(
            f"{path}: column {names.index('') + 1} has no name: name it, or remove it"
        )
    repeated = [name for number, name in enumerate(names) if name in names[:number]]
    if repeated:
        raise UnusableData(f"{path} has the column {repeated[0]} twice: rename or remove one")


def _check_no_holes(path: Path, table: pd.DataFrame) -> None:
    for name in table.columns:
        holes = table[name].isna()
        if holes.any():
            raise UnusableData(
                f"{path}, data row {_first(holes)}: {name} is empty or not a number: "
                f"fill it in, or remove the row ({int(holes.sum())} such in this column)"
            )


def _with_numbers(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The same with True and False as 1 and 0, and all `columns` numeric and finite."""
    table = table.copy()
    for name in columns:
        column = table[name]
        if pd.api.types.is_bool_dtype(column):
            table[name] = column.astype(int)
            continue
        numbers = pd.to_numeric(column, errors="coerce")
        wrong = ~pd.Series(np.isfinite(numbers.to_numpy(dtype=float)), index=table.index)
        if wrong.any():
            row = _first(wrong)
            value = column.iloc[row - 1]
            shown = repr(value) if isinstance(value, str) else str(value)
            raise UnusableData(
                f"{path}, data row {row}: {name} is {shown}, "
                "not a finite number: encode the column as numbers, or remove it"
            )
    return table


def _check_unique(path: Path, table: pd.DataFrame, name: str) -> None:
    repeated = table[name].duplicated()
    if repeated.any():
        row = _first(repeated)
        raise UnusableData(
            f"{path}, data row {row}: the {name} {table[name].iloc[row - 1]} comes a second time: "
            "give every row its own"
        )


def _identifiers(column: "pd.Series[str]") -> "pd.Series[str]":
    """Trimmed; and `182.0` is 182, as programs write whole numbers that once stood beside gaps."""
    trimmed = column.str.strip()
    if trimmed.str.fullmatch(r"\d+(\.0+)?").all():
        return trimmed.str.replace(r"\.0+$", "", regex=True)
    return trimmed


def _first(rows: "pd.Series[bool]") -> int:
    """Number of the first row that is set; the first row under the header is 1."""
    return int(np.flatnonzero(rows.to_numpy())[0]) + 1
