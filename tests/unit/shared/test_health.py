import msgspec

from shared.health import Heartbeat, answer
from shared.testing import FakeClock


def test_well_is_200_and_not_well_is_503_and_says_why() -> None:
    assert answer([]).status == 200
    status, body = answer(["the store is away"])
    assert (status, msgspec.json.decode(body)) == (
        503,
        {"ok": False, "reasons": ["the store is away"]},
    )


def test_a_loop_that_comes_round_is_alive_and_one_that_does_not_is_stuck() -> None:
    clock = FakeClock()
    heart = Heartbeat(clock, stuck_after_s=60.0)
    heart.beat()
    clock.now_s = 60.0
    assert heart.not_alive() == []
    clock.now_s = 61.0
    assert heart.not_alive() == ["the loop has not come round for 61 s"]
    heart.beat()
    assert heart.not_alive() == []


def test_a_loop_that_has_not_begun_or_is_over_is_not_stuck() -> None:
    clock = FakeClock()
    heart = Heartbeat(clock, stuck_after_s=60.0)
    clock.now_s = 1_000.0
    assert heart.not_alive() == []
    heart.beat()
    heart.rest()
    clock.now_s = 2_000.0
    assert heart.not_alive() == []
