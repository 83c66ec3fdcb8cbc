from server.partition_view import PartitionView, Update
from shared.ports import Change, ModelConfig, Position, Source


def position(next_offset: int, generation: int = 1) -> Position:
    return Position(next_offset, Source("c", "outcomes", 1), generation, "w", ModelConfig(3, "e"))


def change(start: int, end: int, generation: int = 1, **rows: bytes) -> Change:
    return Change(0, generation, start, end, {int(arm[1:]): row for arm, row in rows.items()})


def view_at(next_offset: int, generation: int = 1) -> PartitionView:
    view = PartitionView()
    here = position(next_offset, generation)
    assert view.copied(here, [], here) == Update(next_offset, {}, whole=True)
    return view


def test_a_new_view_has_to_copy_first() -> None:
    assert PartitionView().must_read


def test_a_state_that_is_not_there_yet_is_an_empty_one() -> None:
    view = PartitionView()
    assert view.copied(None, [], None) == Update(0, {}, whole=True)
    assert not view.must_read


def test_a_change_that_continues_the_view_is_taken() -> None:
    view = view_at(5)
    assert view.heard(change(5, 7, a1=b"x")) == Update(7, {1: b"x"}, whole=False)
    assert view.next_offset == 7


def test_the_birth_of_a_state_is_no_gap() -> None:
    view = PartitionView()
    view.copied(None, [], None)
    assert view.heard(change(0, 0)) == Update(0, {}, whole=False)
    assert view.heard(change(0, 3, a1=b"x")) == Update(3, {1: b"x"}, whole=False)
    assert view.gaps == 0


def test_a_gap_makes_it_copy_again() -> None:
    view = view_at(5)
    assert view.heard(change(6, 7, a1=b"x")) is None
    assert view.must_read
    assert view.gaps == 1


def test_a_change_that_the_copy_held_already_is_passed_over() -> None:
    view = view_at(5)
    assert view.heard(change(3, 5, a1=b"old")) is None
    assert not view.must_read


def test_another_generation_makes_it_copy_again() -> None:
    view = view_at(5)
    assert view.heard(change(5, 6, generation=2)) is None
    assert view.must_read


def test_a_replaced_state_is_noticed_by_its_announcement() -> None:
    view = view_at(5)
    view.heard(Change(0, 2, -1, 3, {}))
    assert view.must_read
    assert view.copied(position(3, 2), [{1: b"x"}], position(3, 2)) == Update(3, {1: b"x"}, True)


def test_a_copy_made_while_writing_went_on_waits_for_the_changes() -> None:
    view = PartitionView()
    assert view.copied(position(5), [{1: b"old"}, {2: b"new"}], position(9)) is None
    assert not view.must_read
    assert view.heard(change(3, 5, a1=b"older")) is None
    assert view.heard(change(5, 7, a1=b"new")) is None
    assert view.heard(change(7, 9, a2=b"new")) == Update(9, {1: b"new", 2: b"new"}, whole=True)


def test_a_gap_while_waiting_throws_the_copy_away() -> None:
    view = PartitionView()
    view.copied(position(5), [], position(9))
    view.heard(change(7, 9))
    assert view.must_read


def test_a_state_replaced_during_the_copy_is_copied_again() -> None:
    view = PartitionView()
    assert view.copied(position(5, 1), [], position(3, 2)) is None
    assert view.must_read


def test_what_was_announced_while_a_copy_is_due_is_left_to_the_copy() -> None:
    view = view_at(5)
    view.lost()
    assert view.heard(change(5, 6)) is None
    assert view.must_read


def test_being_behind_once_may_be_a_message_under_way() -> None:
    view = view_at(5)
    view.checked(position(6))
    assert not view.must_read
    view.heard(change(5, 6))
    view.checked(position(6))
    assert not view.must_read


def test_being_behind_twice_is_a_lost_message() -> None:
    view = view_at(5)
    view.checked(position(6))
    view.checked(position(6))
    assert view.must_read


def test_a_store_that_went_back_is_copied_at_once() -> None:
    view = view_at(5)
    view.checked(position(4))
    assert view.must_read


def test_a_store_that_was_emptied_is_copied_at_once() -> None:
    view = view_at(5)
    view.checked(None)
    assert view.must_read
