import json
import math
import random
from datetime import datetime, timedelta
from typing import Final

import msgspec
import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

from shared.events import Context
from shared.features import CONTEXT_FEATURES, GENDERS, TRAFFIC_SOURCES, Encoder, NotFinite

RANGES: Final = {"age": (12.0, 70.0), "latitude": (-44.0, -10.0), "longitude": (113.0, 154.0)}
CATEGORIES: Final = {"gender": list(GENDERS), "traffic_source": list(TRAFFIC_SOURCES)}
MONDAY: Final = datetime(2026, 1, 5)  # noqa: DTZ001 (the shop's own clock has no zone)


def encoder() -> Encoder:
    return Encoder(dict(RANGES), {name: list(values) for name, values in CATEGORIES.items()})


def context(**changes: object) -> Context:
    base = Context(
        age=41,
        gender="F",
        latitude=-27.0,
        longitude=133.5,
        traffic_source="Search",
        occurred_at=MONDAY,
    )
    return msgspec.structs.replace(base, **changes)


def features_of(**changes: object) -> dict[str, float]:
    [x] = encoder().encode([context(**changes)]).X.tolist()
    return dict(zip(CONTEXT_FEATURES, x, strict=True))


def ones_of(**changes: object) -> set[str]:
    return {name for name, value in features_of(**changes).items() if value == 1.0}


def test_x_has_fifteen_numbers_in_the_documented_order() -> None:
    assert CONTEXT_FEATURES == (
        "age",
        "latitude",
        "longitude",
        "gender_F",
        "gender_M",
        "traffic_source_Display",
        "traffic_source_Email",
        "traffic_source_Facebook",
        "traffic_source_Organic",
        "traffic_source_Search",
        "is_morning",
        "is_afternoon",
        "is_evening",
        "is_weekend",
        "is_weekday",
    )
    assert encoder().d == len(CONTEXT_FEATURES) == 15
    [x] = encoder().encode([context()]).X.tolist()
    assert x == [0.5, 0.5, 0.5, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def test_it_agrees_with_scikit_learn() -> None:
    draw = random.Random(3)
    rows = [
        [draw.randint(12, 70), draw.uniform(-43.9, -10.3), draw.uniform(113.2, 153.8)]
        for _ in range(300)
    ]
    named = [[draw.choice(GENDERS), draw.choice(TRAFFIC_SOURCES)] for _ in rows]
    scaler, one_hot = MinMaxScaler().fit(rows), OneHotEncoder(sparse_output=False).fit(named)
    bounds = zip(scaler.data_min_.tolist(), scaler.data_max_.tolist(), strict=True)
    genders, sources = (found.tolist() for found in one_hot.categories_)
    ours = Encoder(
        dict(zip(RANGES, bounds, strict=True)), {"gender": genders, "traffic_source": sources}
    )
    contexts = [
        context(
            age=age,
            latitude=latitude,
            longitude=longitude,
            gender=gender,
            traffic_source=source,
        )
        for (age, latitude, longitude), (gender, source) in zip(rows, named, strict=True)
    ]
    encoded = ours.encode(contexts)
    theirs = np.hstack([scaler.transform(rows), one_hot.transform(named)])
    np.testing.assert_allclose(encoded.X[:, :10], theirs, rtol=0, atol=1e-12)
    assert (encoded.unknown_categories, encoded.clipped) == (0, 0)


@pytest.mark.parametrize(
    ("hour", "part"),
    [
        (0, None),
        (5, None),
        (6, "is_morning"),
        (11, "is_morning"),
        (12, "is_afternoon"),
        (17, "is_afternoon"),
        (18, "is_evening"),
        (23, "is_evening"),
    ],
)
@pytest.mark.parametrize("minute", [0, 59])
def test_an_hour_belongs_to_one_part_of_the_day_and_night_to_none(
    hour: int, minute: int, part: str | None
) -> None:
    features = ones_of(occurred_at=MONDAY.replace(hour=hour, minute=minute))
    parts = {"is_morning", "is_afternoon", "is_evening"}
    assert features & parts == ({part} if part else set())


@pytest.mark.parametrize("day", range(7))
def test_saturday_and_sunday_are_the_weekend(day: int) -> None:
    features = ones_of(occurred_at=MONDAY + timedelta(days=day, hours=23, minutes=59))
    expected = "is_weekend" if day in (5, 6) else "is_weekday"
    assert features & {"is_weekend", "is_weekday"} == {expected}


def test_an_unknown_category_becomes_zeros_and_is_counted() -> None:
    encoded = encoder().encode([context(gender="X", traffic_source="Carrier pigeon"), context()])
    assert encoded.unknown_categories == 2
    assert encoded.X[0, 3:10].tolist() == [0.0] * 7
    assert encoded.X[1, 3:10].sum() == 2.0


@pytest.mark.parametrize(
    ("name", "value", "clipped"),
    [
        ("age", 11, 0.0),
        ("age", 71, 1.0),
        ("latitude", -90.0, 0.0),
        ("latitude", 90.0, 1.0),
        ("longitude", -180.0, 0.0),
        ("longitude", 180.0, 1.0),
    ],
)
def test_a_number_out_of_range_is_clipped_and_counted(
    name: str, value: float, clipped: float
) -> None:
    encoded = encoder().encode([context(), context(**{name: value})])
    assert encoded.clipped == 1
    assert encoded.X[1, CONTEXT_FEATURES.index(name)] == clipped


def test_the_ends_of_a_range_are_not_clipped() -> None:
    ends = [context(age=12, latitude=-44.0, longitude=113.0), context(age=70, latitude=-10.0)]
    encoded = encoder().encode(ends)
    assert encoded.clipped == 0
    assert encoded.X[:, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["latitude", "longitude"])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    bad = context(**{name: value})
    for refuse in (lambda: encoder().encode([context(), bad]), lambda: encoder().check(bad)):
        with pytest.raises(NotFinite, match=f"{name} is not a finite number"):
            refuse()


def test_a_context_is_encoded_the_same_alone_and_in_a_batch() -> None:
    contexts = [context(age=age, latitude=-11.0 - age / 7) for age in range(12, 71)]
    alone = [encoder().encode([one]).X[0].tolist() for one in contexts]
    assert encoder().encode(contexts).X.tolist() == alone


def test_the_id_follows_from_the_content() -> None:
    whole = {name: (int(least), int(most)) for name, (least, most) in RANGES.items()}
    assert Encoder(dict(whole), dict(CATEGORIES)).id == encoder().id
    wider = {**RANGES, "age": (12.0, 71.0)}
    swapped = {**CATEGORIES, "gender": ["M", "F"]}
    ids = {encoder().id, Encoder(wider, dict(CATEGORIES)).id, Encoder(dict(RANGES), swapped).id}
    assert len(ids) == 3


def test_an_encoder_survives_its_file() -> None:
    again = Encoder.from_json(encoder().to_json())
    assert (again.id, again.d, again.ranges) == (encoder().id, 15, RANGES)
    assert again.to_json() == encoder().to_json()
    assert again.encode([context()]).X.tolist() == encoder().encode([context()]).X.tolist()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], 2, "encoder of format 2, this software reads 1"),
        (["id"], "0123456789abcdef", "id does not match"),
        (["ranges", "age"], [12.0, 71.0], "id does not match"),
        (["ranges", "age"], [70.0, 70.0], "empty or not finite"),
        (["ranges", "age"], [70.0, 12.0], "empty or not finite"),
        (["ranges", "age"], [12.0], r"Expected `array` of length 2"),
        (["ranges"], {"age": [12.0, 70.0]}, "an encoder has ranges of"),
        (["categories"], {"gender": ["F", "M"]}, "both kinds of categories"),
        (["categories", "gender"], "FM", "Expected `array`"),
    ],
)
def test_a_file_changed_by_hand_is_refused(path: list[str], value: object, message: str) -> None:
    content = json.loads(encoder().to_json())
    *parents, last = path
    target = content
    for name in parents:
        target = target[name]
    target[last] = value
    with pytest.raises(ValueError, match=message):
        Encoder.from_json(json.dumps(content).encode())


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"{}"])
def test_a_file_that_is_no_encoder_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whose words are msgspec's)
        Encoder.from_json(text)


@pytest.mark.parametrize("least", [math.nan, -math.inf])
def test_a_range_that_is_not_finite_is_refused(least: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Encoder({**RANGES, "latitude": (least, -10.0)}, dict(CATEGORIES))


@pytest.mark.parametrize("hour", [3, 9, 15, 21])
@pytest.mark.parametrize("day", [0, 5])
def test_a_context_can_be_read_back_from_x(hour: int, day: int) -> None:
    asked = context(age=23, gender="M", occurred_at=MONDAY + timedelta(days=day, hours=hour))
    [x] = encoder().encode([asked]).X.tolist()
    read = encoder().decode(x)
    assert (read.age, read.gender, read.traffic_source) == (23, "M", "Search")
    assert (read.latitude, read.longitude) == pytest.approx((-27.0, 133.5))
    assert read.occurred_at == asked.occurred_at
    assert encoder().encode([read]).X[0] == pytest.approx(x)


def test_an_unknown_category_is_read_back_as_empty() -> None:
    [x] = encoder().encode([context(gender="X", traffic_source="Pigeon")]).X.tolist()
    read = encoder().decode(x)
    assert (read.gender, read.traffic_source) == ("", "")


def test_every_column_of_x_has_a_name() -> None:
    assert encoder().features == CONTEXT_FEATURES


def test_the_roles_say_what_is_constant_and_what_the_visitor_brings() -> None:
    roles = encoder().roles
    other_visitor = context(age=23, gender="M", latitude=-12.0, longitude=120.0)
    other_time = context(occurred_at=MONDAY + timedelta(days=5, hours=9))
    x, visitor, time = encoder().encode([context(), other_visitor, other_time]).X
    assert [x @ roles.constant, visitor @ roles.constant, time @ roles.constant] == [1.0] * 3
    assert (roles.visitor[visitor != x] == 1.0).all()
    assert (roles.visitor[time != x] == 0.0).all()
    assert int(roles.visitor.sum()) == len(CONTEXT_FEATURES) - 5
