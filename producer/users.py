"""A thousand shoppers that nobody is: Faker's names at Australian places."""

import random
from typing import TYPE_CHECKING, Final

from shared.catalogue import User
from shared.features import GENDERS, TRAFFIC_SOURCES

if TYPE_CHECKING:
    from faker import Faker

AGES: Final = (12, 70)
SHARES: Final = {"Display": 4, "Email": 5, "Facebook": 6, "Organic": 15, "Search": 70}
"""Where visits come from, in percent."""


def fake_users(count: int, seed: int) -> list[User]:
    """`count` users, the same for the same seed."""
    from faker import Faker

    faker = Faker("en_AU")
    faker.seed_instance(f"users {seed}")
    draw = random.Random(f"traits {seed}")
    return [_user(user_id, faker, draw) for user_id in range(1, count + 1)]


def _user(user_id: int, faker: "Faker", draw: random.Random) -> User:
    gender = draw.choice(GENDERS)
    name = faker.name_female() if gender == "F" else faker.name_male()
    place = faker.local_latlng("AU")
    if place is None:
        raise LookupError("Faker knows no place in Australia")
    latitude, longitude, city, *_ = place
    [source] = draw.choices(TRAFFIC_SOURCES, [SHARES[source] for source in TRAFFIC_SOURCES])
    return User(
        user_id,
        name,
        city,
        draw.randint(*AGES),
        gender,
        float(latitude),
        float(longitude),
        source,
    )
