from shared.membership import PATIENCE_S, Membership
from shared.testing import FakeClock


def test_until_it_is_told_a_member_has_nothing_to_serve() -> None:
    membership = Membership(FakeClock())
    assert membership.not_ready == ["the group has assigned no partitions yet"]
    membership.told()
    assert membership.not_ready == []


def test_a_group_that_divides_its_partitions_for_too_long_is_told_of() -> None:
    clock = FakeClock()
    membership = Membership(clock)
    membership.told()
    clock.now_s += 100.0
    membership.waits()
    clock.now_s += PATIENCE_S
    assert membership.not_ready == []
    clock.now_s += 110.0
    assert membership.not_ready == ["the group has been dividing its partitions for 120 s"]
    membership.told()
    assert membership.not_ready == []
