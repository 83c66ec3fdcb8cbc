"""What every `StateStore` must do, whoever implements it."""

import pytest

from shared.ports import (
    Change,
    ChangeFeed,
    Conflict,
    ModelConfig,
    Position,
    Source,
    State,
    StateStore,
    Write,
)

SOURCE = Source("cluster", "outcomes", 12)
CONFIG = ModelConfig(15, "encoder", gamma=0.5)


def position(next_offset: int, generation: int = 1, writer: str = "w:1") -> Position:
    return Position(next_offset, SOURCE, generation, writer, CONFIG)


def heard(feed: ChangeFeed, count: int) -> list[Change]:
    """At least `count` changes; gives up after ten waits."""
    changes: list[Change] = []
    for _ in range(10):
        changes += feed.drain(1.0) if len(changes) < count else []
    return changes


class StoreSuite:
    """Subclasses provide the fixture `store`: an empty one."""

    def rows(self, store: StateStore, partition: int = 0) -> dict[int, bytes]:
        return {arm: row for page in store.scan(partition) for arm, row in page.items()}

    def test_what_was_never_written_is_not_there(self, store: StateStore) -> None:
        assert store.positions([0, 1]) == [None, None]
        assert self.rows(store) == {}

    def test_a_first_write_makes_the_state(self, store: StateStore) -> None:
        assert store.write(0, None, position(3), {7: b"\x00\xff"}) is None
        assert store.positions([0, 1]) == [position(3), None]
        assert self.rows(store) == {7: b"\x00\xff"}

    def test_a_second_first_write_is_a_conflict(self, store: StateStore) -> None:
        store.write(0, None, position(0, writer="a:1"), {})
        assert store.write(0, None, position(0, writer="b:1"), {1: b"x"}) == Conflict(
            position(0, writer="a:1")
        )
        assert self.rows(store) == {}

    def test_a_write_changes_its_rows_and_leaves_the_others(self, store: StateStore) -> None:
        store.write(0, None, position(1), {1: b"a", 2: b"b"})
        assert store.write(0, position(1), position(2, writer="w:2"), {2: b"B", 3: b"c"}) is None
        assert store.positions([0]) == [position(2, writer="w:2")]
        assert self.rows(store) == {1: b"a", 2: b"B", 3: b"c"}

    def test_a_write_without_rows_moves_the_offset(self, store: StateStore) -> None:
        store.write(0, None, position(1), {1: b"a"})
        assert store.write(0, position(1), position(9), {}) is None
        assert store.positions([0]) == [position(9)]

    @pytest.mark.parametrize(
        "believed",
        [
            position(2),
            position(0),
            position(1, generation=2),
            Position(1, Source("other", "outcomes", 12), 1, "w:1", CONFIG),
            Position(1, Source("cluster", "outcomes", 24), 1, "w:1", CONFIG),
            Position(1, Source("cluster", "outcomes", 12, topic_id="new"), 1, "w:1", CONFIG),
        ],
    )
    def test_who_believes_something_else_writes_nothing(
        self, store: StateStore, believed: Position
    ) -> None:
        store.write(0, None, position(1), {1: b"a"})
        assert store.write(0, believed, position(5), {1: b"z", 2: b"z"}) == Conflict(position(1))
        assert store.positions([0]) == [position(1)]
        assert self.rows(store) == {1: b"a"}

    def test_a_write_can_say_more_of_the_log_than_was_known(self, store: StateStore) -> None:
        known = Position(2, Source("cluster", "outcomes", 12, topic_id="id"), 1, "w:2", CONFIG)
        store.write(0, None, position(1), {})
        assert store.write(0, position(1), known, {}) is None
        assert store.positions([0]) == [known]
        assert store.write(0, position(2), position(3), {}) == Conflict(known)

    def test_writing_to_a_state_that_is_gone_is_a_conflict(self, store: StateStore) -> None:
        assert store.write(0, position(1), position(2), {1: b"a"}) == Conflict(None)
        assert store.positions([0]) == [None]

    def test_partitions_are_apart(self, store: StateStore) -> None:
        store.write(0, None, position(1), {1: b"a"})
        store.write(1, None, position(2), {1: b"b"})
        assert store.positions([1, 0]) == [position(2), position(1)]
        assert (self.rows(store, 0), self.rows(store, 1)) == ({1: b"a"}, {1: b"b"})

    def test_of_several_writes_one_that_conflicts_holds_up_none(self, store: StateStore) -> None:
        store.write(1, None, position(1), {1: b"a"})
        feed = store.changes([0, 1, 2])
        conflicts = store.write_all(
            [
                Write(0, None, position(3), {7: b"x"}),
                Write(1, position(9), position(10), {1: b"z"}),
                Write(2, None, position(4), {}),
            ]
        )
        assert conflicts == [None, Conflict(position(1)), None]
        assert store.positions([0, 1, 2]) == [position(3), position(1), position(4)]
        assert [self.rows(store, p) for p in range(3)] == [{7: b"x"}, {1: b"a"}, {}]
        assert heard(feed, 2) == [Change(0, 1, 3, 3, {7: b"x"}), Change(2, 1, 4, 4, {})]
        feed.close()

    def test_no_write_at_all_is_none(self, store: StateStore) -> None:
        assert store.write_all([]) == []

    def test_every_write_is_announced_with_its_rows(self, store: StateStore) -> None:
        feed = store.changes([0, 1])
        store.write(0, None, position(0), {})
        store.write(0, position(0), position(4), {1: b"a"})
        store.write(1, None, position(0), {})
        assert heard(feed, 3) == [
            Change(0, 1, 0, 0, {}),
            Change(0, 1, 0, 4, {1: b"a"}),
            Change(1, 1, 0, 0, {}),
        ]
        feed.close()

    def test_a_refused_write_is_not_announced(self, store: StateStore) -> None:
        store.write(0, None, position(1), {})
        feed = store.changes([0])
        store.write(0, position(7), position(8), {1: b"a"})
        store.write(0, position(1), position(2), {})
        assert heard(feed, 1) == [Change(0, 1, 1, 2, {})]
        feed.close()

    def test_only_the_partitions_asked_for_are_announced(self, store: StateStore) -> None:
        feed = store.changes([1])
        store.write(0, None, position(0), {})
        store.write(1, None, position(0), {})
        assert [change.partition for change in heard(feed, 1)] == [1]
        feed.close()

    def test_a_thousand_rows_go_in_one_write_and_come_out_in_pages(self, store: StateStore) -> None:
        many = {arm: b"%d" % arm for arm in range(1_000)}
        assert store.write(0, None, position(1), many) is None
        assert self.rows(store) == many
        assert len(list(store.scan(0))) > 1

    def test_replacing_puts_the_new_state_whole_and_raises_the_generation(
        self, store: StateStore
    ) -> None:
        store.write(0, None, position(9, generation=4), {1: b"a", 2: b"b"})
        feed = store.changes([0])
        many = dict.fromkeys(range(100, 2600), b"n")
        store.replace(0, State(position(5), many))
        assert store.positions([0]) == [position(5, generation=5)]
        assert self.rows(store) == many
        [change] = heard(feed, 1)
        assert (change.generation, change.to_offset) == (5, 5)
        assert change.from_offset != 9
        feed.close()

    def test_who_held_the_replaced_state_writes_nothing(self, store: StateStore) -> None:
        store.write(0, None, position(5), {1: b"a"})
        store.replace(0, State(position(5), {2: b"b"}))
        assert isinstance(store.write(0, position(5), position(6), {1: b"z"}), Conflict)
        assert self.rows(store) == {2: b"b"}

    def test_replacing_makes_a_state_where_there_was_none(self, store: StateStore) -> None:
        store.replace(3, State(position(5, generation=2), {1: b"a"}))
        assert store.positions([3]) == [position(5, generation=3)]
