import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from reco.commands.status import EXPERIMENT_EVERY_S, recorded, with_experiment
from reco.experiment_report import ExperimentReport, report
from reco.status import NOBODY, UNKNOWN, Status, Survey, judge, survey
from reco.status_screen import screen
from shared.events import DEAD_LETTERS, DECISIONS, OUTCOMES, PRODUCTS, VISITS
from shared.kafka_admin import Broker, Committed, Member
from shared.ports import (
    BrokerUnavailable,
    CorruptState,
    ModelConfig,
    Position,
    Source,
    StoreRefuses,
    StoreUnavailable,
    Watermarks,
)
from shared.testing import FakeBoard, FakeClock
from tests.contract.board_suite import presence
from tests.unit.reco.command_line import Reco

TOPICS = {VISITS: 2, DECISIONS: 1, OUTCOMES: 2, DEAD_LETTERS: 1, PRODUCTS: 1}
GROUPS = {VISITS: "servers", OUTCOMES: "trainers"}


class World:
    """A broker, a store and a board, as an operator finds them."""

    def __init__(self) -> None:
        self.topics = dict(TOPICS)
        self.end = 100
        self.away: StoreUnavailable | CorruptState | None = None
        self.board = FakeBoard(FakeClock())
        self.groups: dict[str, list[Member]] | None = {
            "servers": [Member("server-1", "h", [(VISITS, 0), (VISITS, 1)])],
            "trainers": [Member("trainer-1", "h", [(OUTCOMES, 0), (OUTCOMES, 1)])],
        }
        self.board.announce(presence("server-1", partitions=[0, 1]))
        self.board.announce(presence("trainer-1", kind="trainer", partitions=[0, 1]))

    def brokers(self) -> list[Broker]:
        return [Broker(1, "127.0.0.1:9092")]

    def watermarks(self, topic: str, partitions: Iterable[int]) -> dict[int, Watermarks]:
        return dict.fromkeys(partitions, Watermarks(20, self.end))

    def committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, Committed]:
        assert group == "servers"
        return {0: Committed(90)}

    def members(self, group: str) -> list[Member] | None:
        return None if self.groups is None else self.groups[group]

    def positions(self, partitions: Sequence[int]) -> list[Position | None]:
        if self.away:
            raise self.away
        at = Position(97, Source("c", OUTCOMES, 2), 1, "w", ModelConfig(3, "e"))
        return [at, None][: len(partitions)]

    def look(self, at_s: float = 0.0) -> Survey:
        return survey(self, self.topics, self, self.board, GROUPS, at_s)

    def status(self) -> Status:
        return judge(self.look())


@pytest.fixture
def world() -> World:
    return World()


def test_of_a_store_that_does_not_answer_no_lag_is_made_up(world: World) -> None:
    world.away = StoreUnavailable("the store is away")
    status = judge(world.look(), max_lag=110)
    assert status.reasons == ["the store is away"]
    assert {row.lag for row in status.partitions if row.topic == OUTCOMES} == {None}
    console = Console(width=200)
    with console.capture() as shown:
        console.print(screen(status))
    assert "│ 0        │ trainer-1 │ -      │ -   │" in shown.get()


def test_who_is_not_let_in_is_told_that_alone(world: World) -> None:
    world.away = StoreRefuses("wrong password")
    with pytest.raises(StoreRefuses, match="wrong password"):
        world.look()


def test_all_is_well_where_all_is_well(world: World) -> None:
    status = world.status()
    assert (status.healthy, status.reasons) == (True, [])
    assert [each.name for each in status.servers] == ["server-1"]
    assert status.dead_letters.records == 80


def test_each_partition_has_owner_offset_and_lag(world: World) -> None:
    rows = {(row.topic, row.partition): row for row in world.status().partitions}
    first, second = rows[VISITS, 0], rows[VISITS, 1]
    assert (first.owner, first.offset, first.lag) == ("server-1", 90, 10)
    assert (second.owner, second.offset, second.lag) == ("server-1", None, 80)
    assert (rows[OUTCOMES, 0].owner, rows[OUTCOMES, 0].lag) == ("trainer-1", 3)


def test_rates_are_measured_between_two_looks(world: World) -> None:
    before = world.look(at_s=10.0)
    world.end = 130
    status = judge(world.look(at_s=12.0), before)
    assert {row.rate for row in status.partitions} == {15.0}
    assert {row.topic: row.rate for row in status.topics}[VISITS] == 30.0


def test_a_partition_that_nobody_owns_is_a_reason(world: World) -> None:
    assert world.groups
    world.groups["trainers"] = [Member("trainer-1", "h", [(OUTCOMES, 0)])]
    status = world.status()
    assert status.reasons == [f"nobody owns {OUTCOMES}/1: start a trainer"]
    assert status.partitions[-1].owner == NOBODY


def test_visits_that_no_server_is_meant_to_decide_need_no_owner(world: World) -> None:
    assert world.groups
    world.groups["servers"] = []
    world.board.announce(presence("server-1", partitions=[], stream=False))
    assert world.status().healthy
    (reason,) = judge(world.look(), max_lag=89).reasons  # 10 and 80 wait
    assert reason.endswith("more than 89: no server decides them (--no-stream)")
    world.board.announce(presence("server-2", partitions=[], stream=True))
    assert world.status().reasons == [f"nobody owns {VISITS}/0, 1: start a server"]


def test_where_the_broker_does_not_say_who_owns_what_the_processes_do(world: World) -> None:
    world.groups = None
    assert world.status().healthy
    assert {row.owner for row in world.status().partitions} == {"server-1", "trainer-1"}


def test_what_nobody_says_is_unknown_and_a_service_that_is_missing_is_missed(
    world: World,
) -> None:
    world.groups = None
    world.board.withdraw("trainer-1")
    status = world.status()
    assert status.reasons == ["no trainer says that it is there"]
    assert status.partitions[-1].owner == UNKNOWN


def test_an_owner_that_the_store_has_no_word_of_is_missed(world: World) -> None:
    world.board.withdraw("trainer-1")
    [reason] = world.status().reasons
    assert reason.startswith("trainer trainer-1 owns partitions and the store has no word of it")
    world.away = StoreUnavailable("the store is away")
    assert world.status().reasons == ["the store is away"]


def test_too_much_lag_is_a_reason(world: World) -> None:
    assert judge(world.look(), max_lag=90).healthy
    [visits] = judge(world.look(), max_lag=89).reasons
    assert visits == "visits is 90 records behind, more than 89: start another server"


def test_another_process_is_not_asked_for_where_those_that_are_there_can_not_serve(
    world: World,
) -> None:
    world.end = 500
    world.board.announce(presence("trainer-1", kind="trainer", not_ready=["refused"]))
    _, outcomes, why = judge(world.look(), max_lag=800).reasons
    assert outcomes == "outcomes is 883 records behind, more than 800"
    assert why == "trainer trainer-1 is not ready: refused"


def test_a_process_that_is_not_ready_says_why(world: World) -> None:
    world.board.announce(presence("trainer-1", kind="trainer", not_ready=["refused"]))
    assert world.status().reasons == ["trainer trainer-1 is not ready: refused"]


def test_a_server_with_an_old_model_is_a_reason(world: World) -> None:
    world.board.announce(presence("server-1", stale=True, view_age_s=12.4))
    assert world.status().reasons == ["server server-1 serves a model that is 12 s old"]


@pytest.mark.parametrize("kind", [StoreUnavailable, CorruptState])
def test_a_store_that_is_away_or_holds_no_state_is_a_reason_and_the_rest_is_still_shown(
    world: World, kind: type[StoreUnavailable | CorruptState]
) -> None:
    world.away = kind("the store is of no use")
    status = world.status()
    assert status.reasons == ["the store is of no use"]
    assert len(status.partitions) == 4


def test_a_topic_that_is_missing_is_a_reason(world: World) -> None:
    del world.topics[OUTCOMES]
    assert f"there is no topic {OUTCOMES}: make it with `reco topics create`" in (
        world.status().reasons
    )


def test_the_experiment_is_read_every_ten_seconds_at_most_and_its_log_may_be_away(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.board.announce(presence("server-1", partitions=[0, 1], experiment="menu"))
    asked: list[str] = []
    found = report([], [], experiment="menu")
    clock = FakeClock()

    def compare(name: str) -> ExperimentReport:
        asked.append(name)
        if len(asked) > 1:
            raise BrokerUnavailable("the broker is away")
        return found

    def looks() -> Iterator[Status]:
        for _ in range(4):
            yield world.status()
            clock.now_s += EXPERIMENT_EVERY_S / 2

    shown = [status.experiment for status in with_experiment(looks(), compare, clock)]
    assert asked == ["menu", "menu"]
    assert shown == [found] * 4
    assert capsys.readouterr().err.startswith("the broker is away; the experiment is as it was")


def test_an_experiment_of_another_name_is_read_at_once(world: World) -> None:
    reports = {name: report([], [], experiment=name) for name in ("menu", "wine")}

    def looks() -> Iterator[Status]:
        for name in ("menu", "wine", "wine"):
            world.board.announce(presence("server-1", partitions=[0, 1], experiment=name))
            yield world.status()

    shown = with_experiment(looks(), reports.__getitem__, FakeClock())
    assert [status.experiment and status.experiment.experiment for status in shown] == [
        "menu", "wine", "wine",
    ]  # fmt: skip


def test_where_another_experiment_cannot_be_read_the_one_before_is_not_shown(world: World) -> None:
    def compare(name: str) -> ExperimentReport:
        if name == "wine":
            raise BrokerUnavailable("the broker is away")
        return report([], [], experiment=name)

    def looks() -> Iterator[Status]:
        for name in ("menu", "wine"):
            world.board.announce(presence("server-1", partitions=[0, 1], experiment=name))
            yield world.status()

    shown = [status.experiment for status in with_experiment(looks(), compare, FakeClock())]
    assert shown[0] is not None
    assert shown[1] is None


def test_each_look_is_in_the_file_before_the_next_and_what_was_there_stays(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "looks.json"
    for run in (0, 2):
        looks = recorded(iter([world.status(), world.status()]), str(file))
        for seen, status in enumerate(looks, start=1):
            lines = file.read_bytes().splitlines()
            assert len(lines) == run + seen
            assert msgspec.json.decode(lines[-1], type=Status) == status


class StopAfterTwo(threading.Event):
    """Set at the end of the second look."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def is_set(self) -> bool:
        self._asked += 1
        return self._asked >= 2


@pytest.mark.usefixtures("here")
def test_watched_as_json_every_look_is_written_the_first_too(
    reco: Reco, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("reco.commands.status.stop_on_signals", StopAfterTwo)
    watch = ("status", "--watch", "--interval-s", "0.1", "--json")
    printed = reco(*watch).out.splitlines()
    assert [msgspec.json.decode(line)["healthy"] for line in printed] == [False, False]
    file = tmp_path / "looks.json"
    assert reco(*watch, file).out.count("NOT HEALTHY") == 2  # people are shown it as ever
    assert len(file.read_text().splitlines()) == 2
