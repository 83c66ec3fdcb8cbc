"""`reco prepare`: catalogue, users, their features, history and encoder. Same seed, same bytes."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from producer import text_model
from producer.menu_features import catalogue, product_features, texts_of
from producer.new_products import TEXT_MODEL
from producer.simulate import Shoppers
from producer.text_components import COMPONENTS
from producer.users import fake_users
from shared.catalogue import DataError, Product, User
from shared.events import Context, Visit
from shared.features import CONTEXT_FEATURES, NUMBERS, Encoder
from shared.ground_truth import GroundTruth

USERS: Final = 1_000
EVENTS: Final = 10_000
_HISTORY: Final = "history"
_ANY_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Summary(msgspec.Struct, frozen=True):
    """What was prepared."""

    products: int
    categories: int
    users: int
    events: int
    clicks: int
    click_rate: float
    encoder_id: str


def prepare(folder: Path, seed: int, text_by: str = "scikit-learn") -> Summary:
    """Write all files of a data folder.

    Args:
        folder: where to; made if it is not there.
        seed: of users and history.
        text_by: who computes the text components (`producer.text_components.BY`).

    Raises:
        DataError: the folder can't be written.
        TextWiserMissing: it was asked for and is not installed.
    """
    _make(folder)
    products, users = catalogue(), fake_users(USERS, seed)
    encoder = fit_encoder(users)
    visits, shown, responses = _history(products, users, encoder, seed)
    X = encoder.encode([visit.context for visit in visits]).X
    contents = {
        "products.csv": _csv(Product.__struct_fields__, map(_fields, products)),
        "users.csv": _csv(User.__struct_fields__, map(_fields, users)),
        "user_features.csv": _user_features(users, encoder),
        "product_features.csv": _product_features(products, text_by),
        "history.csv": _csv(
            ("event_id", *CONTEXT_FEATURES, "product_id", "response"),
            (
                [number, *map(_number, x), product.product_id, int(response)]
                for number, (x, product, response) in enumerate(
                    zip(X.tolist(), shown, responses, strict=True), start=1
                )
            ),
        ),
        TEXT_MODEL: text_model.to_json(text_model.fit(texts_of(products))),
        "encoder.json": encoder.to_json().decode() + "\n",
    }
    for name, text in contents.items():
        _write(folder / name, text)
    clicks = sum(responses)
    return Summary(
        len(products),
        len({product.category for product in products}),
        len(users),
        EVENTS,
        clicks,
        clicks / EVENTS,
        encoder.id,
    )


def fit_encoder(users: Sequence[User]) -> Encoder:
    """Ranges and categories as scikit-learn's MinMaxScaler and OneHotEncoder find them."""
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

    numbers = MinMaxScaler().fit([[getattr(user, name) for name in NUMBERS] for user in users])
    named = OneHotEncoder().fit([[user.gender, user.traffic_source] for user in users])
    ranges = zip(numbers.data_min_.tolist(), numbers.data_max_.tolist(), strict=True)
    genders, sources = (categories.tolist() for categories in named.categories_)
    return Encoder(
        dict(zip(NUMBERS, ranges, strict=True)), {"gender": genders, "traffic_source": sources}
    )


def _history(
    products: Sequence[Product], users: Sequence[User], encoder: Encoder, seed: int
) -> tuple[list[Visit], list[Product], list[bool]]:
    """Random users shown random products, in the order of the shop's time."""
    # A stream of its own: the shoppers of a later simulation with this seed are others.
    shoppers = Shoppers(users, _stream(_HISTORY, seed), _HISTORY)
    visits = [shoppers.visit(index, _ANY_TIME) for index in range(EVENTS)]
    visits.sort(key=lambda visit: (visit.context.occurred_at, visit.visit_id))
    draw = Random(f"shown {seed}")
    shown = [draw.randrange(len(products)) for _ in visits]
    truth = GroundTruth(products, encoder, _stream("dice", seed))
    P = truth.click_probabilities([visit.context for visit in visits])
    responses = [
        truth.would_click(visit.visit_id, products[column].product_id, float(row[column]))
        for visit, column, row in zip(visits, shown, P, strict=True)
    ]
    return visits, [products[column] for column in shown], responses


def _user_features(users: Sequence[User], encoder: Encoder) -> str:
    # What x says of the user alone; the time is the visit's.
    columns = [name for name in CONTEXT_FEATURES if not name.startswith("is_")]
    contexts = [
        Context(
            age=user.age,
            gender=user.gender,
            latitude=user.latitude,
            longitude=user.longitude,
            traffic_source=user.traffic_source,
            occurred_at=_ANY_TIME.replace(tzinfo=None),
        )
        for user in users
    ]
    X = encoder.encode(contexts).X[:, : len(columns)].tolist()
    rows = ([user.user_id, *map(_number, x)] for user, x in zip(users, X, strict=True))
    return _csv(("user_id", *columns), rows)


def _product_features(products: Sequence[Product], text_by: str) -> str:
    names, features = product_features(products, text_by)
    last = len(names) - 1
    rows = (
        # Categories and is_coffee are written as whole numbers.
        [
            product.product_id,
            *(
                _number(value) if column < COMPONENTS or column == last else int(value)
                for column, value in enumerate(row)
            ),
        ]
        for product, row in zip(products, features.tolist(), strict=True)
    )
    return _csv(["product_id", *names], rows)


def _stream(purpose: str, seed: int) -> int:
    """A seed for one purpose: no integer is used for two."""
    return Random(f"{purpose} {seed}").getrandbits(64)


def _fields(row: Product | User) -> list[object]:
    values = [getattr(row, name) for name in row.__struct_fields__]
    return [int(value) if isinstance(value, bool) else value for value in values]


def _number(value: float) -> str:
    return repr(value)


def _csv(header: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{folder} is not a folder; choose another") from error
    except OSError as error:
        raise DataError(f"can't make {folder}: {error.strerror}; choose another folder") from error


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(text.encode())
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise DataError(f"can't write {path}: {error.strerror}; choose another folder") from error
