from server.freshness import MOST_PENDING, FreshnessProbe
from shared.testing import FakeClock


def test_it_measures_from_the_reaction_until_the_view_has_passed_the_outcome() -> None:
    clock = FakeClock()
    probe = FreshnessProbe(2, clock)
    probe.delivered(0, 7, resolved_s=0.0)
    clock.now_s = 0.004
    probe.advanced(0, 7)
    assert probe.take_ms() == []
    clock.now_s = 0.006
    probe.advanced(0, 8)
    assert probe.take_ms() == [6.0]
    assert probe.take_ms() == []


def test_an_outcome_learned_before_its_acknowledgement_was_read_counts_too() -> None:
    clock = FakeClock()
    probe = FreshnessProbe(1, clock)
    probe.advanced(0, 8)
    clock.now_s = 0.002
    probe.delivered(0, 7, resolved_s=0.0)
    assert probe.take_ms() == [2.0]


def test_partitions_are_apart() -> None:
    probe = FreshnessProbe(2, FakeClock())
    probe.delivered(0, 0, 0.0)
    probe.advanced(1, 5)
    assert probe.take_ms() == []


def test_what_is_published_while_nobody_learns_is_not_all_followed() -> None:
    probe = FreshnessProbe(1, FakeClock())
    for offset in range(MOST_PENDING + 1):
        probe.delivered(0, offset, 0.0)
    probe.advanced(0, MOST_PENDING + 1)
    assert len(probe.take_ms()) == MOST_PENDING
    probe.delivered(0, MOST_PENDING + 1, 0.0)
    probe.advanced(0, MOST_PENDING + 2)
    assert len(probe.take_ms()) == 1
