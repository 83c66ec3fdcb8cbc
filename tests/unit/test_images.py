from pathlib import Path

import tests.images

COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


def test_tests_start_the_images_that_people_do() -> None:
    here = Path(tests.images.__file__).read_text()
    for name in ("REDPANDA_IMAGE", "REDIS_IMAGE"):
        [theirs] = [line for line in COMPOSE.read_text().splitlines() if f"${{{name}:-" in line]
        default = theirs.partition(":-")[2].rstrip("}")
        assert f'"{name}", "{default}"' in here
