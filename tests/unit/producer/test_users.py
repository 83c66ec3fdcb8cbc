from collections import Counter

import pytest

from producer.users import AGES, SHARES, fake_users
from shared.features import GENDERS, TRAFFIC_SOURCES


def test_the_same_seed_makes_the_same_users_and_another_others() -> None:
    assert fake_users(50, 7) == fake_users(50, 7)
    assert not set(fake_users(50, 7)) & set(fake_users(50, 8))


def test_the_first_users_do_not_depend_on_how_many_follow() -> None:
    assert fake_users(100, 7)[:20] == fake_users(20, 7)


def test_ages_are_uniform_and_genders_even() -> None:
    users = fake_users(3_000, 7)
    least, most = AGES
    halves = sum(user.age <= (least + most) // 2 for user in users)
    # 30 of the 59 ages are in the lower half; four standard deviations are 0.037.
    assert halves / 3_000 == pytest.approx(30 / 59, abs=0.037)
    genders = Counter(user.gender for user in users)
    assert sorted(genders) == sorted(GENDERS)
    assert genders["F"] / 3_000 == pytest.approx(0.5, abs=0.037)


def test_traffic_sources_have_their_shares() -> None:
    assert sum(SHARES.values()) == 100
    assert tuple(SHARES) == TRAFFIC_SOURCES
    sources = Counter(user.traffic_source for user in fake_users(3_000, 7))
    for source, percent in SHARES.items():
        share = percent / 100
        four_sigma = 4 * (share * (1 - share) / 3_000) ** 0.5
        assert sources[source] / 3_000 == pytest.approx(share, abs=four_sigma)
