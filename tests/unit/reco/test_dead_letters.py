from collections.abc import Iterable, Mapping, Sequence

import pytest
from rich.console import Console

from reco.commands.dead_letters import table_of
from reco.dead_letters import Choice, DeadLetters, Replayed, Report, TooScattered
from shared.dead_letter import MAX_BYTES, dead_letter
from shared.events import DEAD_LETTERS, OUTCOMES, VISITS
from shared.kafka_admin import MAX_NOTE, Committed
from shared.ports import BrokerUnavailable, Record, Watermarks
from shared.testing import FakeBroker

TOPICS = {VISITS: 2, OUTCOMES: 3, DEAD_LETTERS: 2}


class World:
    """A fake broker with dead letters, and what was noted about them."""

    def __init__(self) -> None:
        self.broker = FakeBroker(TOPICS)
        self.noted: dict[int, Committed] = {}

    def put(self, partition: int, topic: str, value: bytes, reason: str) -> int:
        _, key, kept, headers, _ = dead_letter(Record(topic, 1, 77, b"192", value), reason)
        return self.broker.append(DEAD_LETTERS, partition, key, kept, headers)

    def letters(self) -> DeadLetters:
        return DeadLetters(self.broker.consumer(DEAD_LETTERS, "alone"), self, "g", 2)

    def replay(self, choice: Choice | None = None, **options: bool | int) -> Report:
        most, again = options.get("most"), bool(options.get("again"))
        return self.letters().replay(
            choice or Choice(),
            self.broker.producer(),
            list(TOPICS),
            most=most,
            again=again,
            dry_run=bool(options.get("dry_run")),
        )

    def records(self, topic: str) -> list[Record]:
        return [r for p in range(TOPICS[topic]) for r in self.broker.records(topic, p)]

    def values(self, topic: str) -> set[bytes | None]:
        return {record.value for record in self.records(topic)}

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]:
        return {p: self.broker.watermarks(topic, p) for p in partitions}

    def committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        return {p: self.noted[p] for p in partitions if p in self.noted}

    def commit(self, group: str, topic: str, offsets: Mapping[int, Committed]) -> None:
        self.broker.check()
        self.noted.update(offsets)


@pytest.fixture
def world() -> World:
    world = World()
    world.put(0, OUTCOMES, b"a", "unknown product 7")
    world.put(0, VISITS, b"b", "undecodable: truncated")
    world.put(1, OUTCOMES, b"c", "wrong encoder: x")
    return world


def test_letters_say_where_they_came_from_and_why(world: World) -> None:
    found = list(world.letters().letters(Choice()))
    assert [(f.topic, f.partition, f.offset, f.reason) for f in found] == [
        (OUTCOMES, 1, 77, "unknown product 7"),
        (VISITS, 1, 77, "undecodable: truncated"),
        (OUTCOMES, 1, 77, "wrong encoder: x"),
    ]
    assert not any(letter.replayed for letter in found)


@pytest.mark.parametrize(
    ("choice", "values"),
    [
        (Choice(reason="PRODUCT"), [b"a"]),
        (Choice(topic=OUTCOMES), [b"a", b"c"]),
        (Choice(reason="un", topic=VISITS), [b"b"]),
        (Choice(reason="nothing like it"), []),
    ],
)
def test_letters_are_chosen_by_reason_and_topic(
    world: World, choice: Choice, values: list[bytes]
) -> None:
    assert [letter.record.value for letter in world.letters().letters(choice)] == values


def test_original_bytes_and_key_go_back_and_say_from_which_letter(world: World) -> None:
    report = world.replay()
    assert (report.replayed, report.by_topic) == (3, {OUTCOMES: 2, VISITS: 1})
    assert world.values(OUTCOMES) == {b"a", b"c"}
    [visit] = world.records(VISITS)
    assert (visit.key, visit.value) == (b"192", b"b")
    assert visit.headers == (("replayed-from", b"dead-letters/0@1"),)


def test_none_is_sent_back_twice_unless_that_is_asked_for(world: World) -> None:
    world.replay()
    report = world.replay()
    assert (report.replayed, report.already_replayed) == (0, 3)
    assert len(world.records(OUTCOMES)) == 2
    assert all(letter.replayed for letter in world.letters().letters(Choice()))
    assert world.replay(again=True).replayed == 3
    assert len(world.records(OUTCOMES)) == 4


def test_a_choice_that_is_sent_back_loses_none_of_the_others(world: World) -> None:
    world.replay(Choice(topic=VISITS))
    assert world.noted == {0: Committed(0, "1")}
    assert world.values(OUTCOMES) == set()
    assert world.replay().replayed == 2
    assert world.noted == {0: Committed(2), 1: Committed(1)}


def test_a_letter_that_comes_later_is_sent_back_alone(world: World) -> None:
    world.replay()
    world.put(1, OUTCOMES, b"late", "reward 7 is not in [0, 1]")
    assert world.replay().replayed == 1


def test_so_many_at_most(world: World) -> None:
    assert world.replay(most=2).replayed == 2
    assert world.replay(most=2).replayed == 1


def test_a_dry_run_counts_and_sends_and_notes_nothing(world: World) -> None:
    assert world.replay(dry_run=True).replayed == 3
    assert (world.records(OUTCOMES), world.noted) == ([], {})


def test_what_is_not_acknowledged_is_not_noted(world: World) -> None:
    world.broker.acknowledges = False
    with pytest.raises(BrokerUnavailable):
        world.replay()
    assert world.noted == {}


def test_a_letter_that_does_not_say_where_it_came_from_is_shown_and_stays() -> None:
    world = World()
    world.broker.append(DEAD_LETTERS, 0, None, b"?")
    world.put(0, DEAD_LETTERS, b"loop", "made by hand")
    world.put(0, "nowhere", b"gone", "its topic was deleted")
    [first, *_] = world.letters().letters(Choice())
    assert (first.topic, first.offset, first.reason) == ("", -1, "unknown")
    report = world.replay()
    assert (report.replayed, report.without_source, report.without_topic) == (0, 1, 2)


def test_where_a_letter_came_from_may_be_said_in_more_digits_than_python_reads() -> None:
    world = World()
    headers = [("topic", VISITS.encode()), ("partition", b"1"), ("offset", b"9" * 5_000)]
    world.broker.append(DEAD_LETTERS, 0, None, b"?", headers)
    [letter] = world.letters().letters(Choice())
    assert (letter.topic, letter.partition, letter.offset) == (VISITS, -1, -1)


def test_a_letter_with_a_part_of_a_record_is_not_sent_back() -> None:
    world = World()
    world.put(0, VISITS, b"[" * (MAX_BYTES + 1), "undecodable")
    [letter] = world.letters().letters(Choice())
    assert letter.cut == MAX_BYTES + 1 + len(b"192")
    report = world.replay(again=True)
    assert (report.replayed, report.cut) == (0, 1)


def test_letters_that_retention_took_are_no_hindrance(world: World) -> None:
    world.broker.trim(DEAD_LETTERS, 0, 1)
    assert world.replay().replayed == 2
    assert world.noted[0] == Committed(2)


def test_what_lies_between_letters_tears_no_island_apart() -> None:
    replayed = Replayed()
    for offset in (0, 2, 6, 8, 12):
        replayed.add(offset)
    letters = [0, 2, 4, 6, 8, 10, 12]  # odd offsets are marks of transactions
    committed = replayed.committed(letters, 14)
    assert committed == Committed(4, "6-8,12")
    again = Replayed(*committed)
    assert [offset in again for offset in letters] == [True, True, False, True, True, False, True]


def test_more_than_can_be_remembered_is_not_sent_at_all() -> None:
    world = World()
    for number in range(MAX_NOTE):
        world.put(0, OUTCOMES, b"v", "even" if number % 2 else "odd")
    with pytest.raises(TooScattered, match="--reason"):
        world.replay(Choice(reason="even"))
    assert (world.records(OUTCOMES), world.noted) == ([], {})


def cells_of(lines: Sequence[str]) -> list[str]:
    """What stands in each column of a table with one row, put together again."""
    rows = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    return ["".join(parts).replace(" ", "") for parts in zip(*rows, strict=True)]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_on_a_screen_of_any_width_every_column_is_shown_whole(world: World, width: int) -> None:
    letters = list(world.letters().letters(Choice(reason="unknown product 7")))
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table_of(letters, width))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    assert cells_of(lines) == [
        "dead-letters/0@0",
        "outcomes/1@77",
        "unknownproduct7",
        "192",
        "a",
        "",
    ]
    if width >= 80:  # there it lies on one line
        assert any("dead-letters/0@0│outcomes/1@77│" in line for line in lines)
