from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import pytest

from producer.simulate import Shoppers
from shared.catalogue import User
from shared.events import Visit

NOW: Final = datetime(2026, 11, 24, 7, tzinfo=UTC)
USERS: Final = [
    User(number, f"User {number}", "Perth", 20 + number, "F", -31.95, 115.86, "Search")
    for number in range(1, 21)
]
MONDAY: Final = datetime(2026, 1, 5)  # noqa: DTZ001 (the shop's own clock has no zone)


def visits(seed: int, count: int = 2_000, run_id: str = "run") -> list[Visit]:
    shoppers = Shoppers(USERS, seed, run_id)
    return [shoppers.visit(index, NOW) for index in range(count)]


def test_a_visit_is_a_function_of_seed_and_number_in_any_order() -> None:
    shoppers = Shoppers(USERS, 7, "run")
    backwards = [shoppers.visit(index, NOW) for index in reversed(range(2_000))]
    assert backwards[::-1] == visits(7)


def test_another_seed_brings_other_visits() -> None:
    same = sum(one == other for one, other in zip(visits(7), visits(8), strict=True))
    assert same < 20


def test_another_run_has_the_same_visits_under_other_ids() -> None:
    for one, other in zip(visits(7, 50), visits(7, 50, "again"), strict=True):
        assert one.visit_id != other.visit_id
        assert msgspec.structs.replace(other, visit_id=one.visit_id) == one


def test_ids_are_unique_and_in_the_order_of_numbers() -> None:
    ids = [visit.visit_id for visit in visits(7)]
    assert ids == sorted(set(ids))
    assert ids[12] == Shoppers(USERS, 7, "run").visit_id(12) == "run-0000012"


def test_the_context_is_the_users_own() -> None:
    by_id = {user.user_id: user for user in USERS}
    for visit in visits(7, 200):
        user, context = by_id[visit.user_id], visit.context
        assert (context.age, context.gender, context.traffic_source) == (
            user.age,
            user.gender,
            user.traffic_source,
        )
        assert (context.latitude, context.longitude) == (user.latitude, user.longitude)
        assert visit.emitted_at == NOW


def test_every_user_comes_about_equally_often() -> None:
    count = Counter(visit.user_id for visit in visits(7, 10_000))
    assert sorted(count) == list(range(1, 21))
    # 500 expected; four standard deviations are 88.
    assert 412 < min(count.values()) <= max(count.values()) < 588


def test_visits_fall_on_whole_minutes_of_four_weeks_at_any_hour_and_day() -> None:
    times = [visit.context.occurred_at for visit in visits(7, 10_000)]
    assert all(MONDAY <= at < MONDAY + timedelta(weeks=4) for at in times)
    assert all(at.second == at.microsecond == 0 for at in times)
    hours = Counter(at.hour for at in times)
    days = Counter(at.weekday() for at in times)
    assert (sorted(hours), sorted(days)) == (list(range(24)), list(range(7)))
    # 417 an hour and 1,429 a day expected; four standard deviations are 80 and 140.
    assert 337 < min(hours.values()) <= max(hours.values()) < 497
    assert 1_289 < min(days.values()) <= max(days.values()) < 1_569


def test_without_users_nobody_can_come() -> None:
    with pytest.raises(ValueError, match="no users"):
        Shoppers([], 7, "run")
