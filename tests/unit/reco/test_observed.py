import socket
from typing import Literal

import click
import httpx
import pytest

from reco.observed import Observer, State, observed
from reco.options import Address
from shared.health import STUCK_AFTER_S, Heartbeat
from shared.metrics import TrainerMetrics, exposition
from shared.ports import BrokerUnavailable
from shared.presence import Presence
from shared.testing import FakeBoard, FakeClock
from tests.scenario import NOON


class Service:
    """A trainer in outline."""

    kind: Literal["trainer"] = "trainer"

    def __init__(self) -> None:
        self.metrics = TrainerMetrics()
        self.applied = 0
        self.reasons: list[str] = []
        self.behind: dict[int, int] | None = {3: 5, 4: 0}

    def not_ready(self) -> list[str]:
        return self.reasons

    def done(self) -> int:
        return self.applied

    def counts(self) -> dict[str, int]:
        return {"applied": self.applied}

    def state(self) -> State:
        return State([3, 4], {3: 10, 4: 20})

    def lag(self) -> tuple[str, dict[int, int]]:
        if self.behind is None:
            raise BrokerUnavailable("away")
        return "outcomes", self.behind


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.board = FakeBoard(self.clock)
        self.service = Service()
        self.heartbeat = Heartbeat(self.clock)
        self.observer = Observer(
            self.service, "me", self.board, self.clock, lambda: NOON, self.heartbeat.not_alive
        )

    def look(self) -> Presence:
        self.clock.now_s += 1.0
        self.observer.look()
        [said] = self.board.present()
        return said

    def scraped(self) -> str:
        return exposition(self.service.metrics.registry).decode()


@pytest.fixture
def world() -> World:
    return World()


def test_the_board_hears_who_it_is_what_it_owns_and_how_it_gets_on(world: World) -> None:
    world.service.applied = 50
    said = world.look()
    assert (said.kind, said.name, said.rate_per_s, said.lag) == ("trainer", "me", 50.0, 5)
    assert (said.partitions, said.positions) == ([3, 4], {3: 10, 4: 20})
    assert world.look().rate_per_s == 0.0


def test_lag_is_shown_partition_by_partition(world: World) -> None:
    world.look()
    assert 'reco_lag_records{partition="3",topic="outcomes"} 5.0' in world.scraped()


def test_a_lag_that_is_not_known_any_more_is_not_the_last_one_known(world: World) -> None:
    world.look()
    world.service.behind = None
    assert world.look().lag is None
    assert "reco_lag_records{" not in world.scraped()


def test_a_board_that_is_away_disturbs_nothing(world: World) -> None:
    world.board.available = False
    world.observer.look()
    assert "reco_lag_records{" in world.scraped()
    world.observer.end()


def test_readiness_is_a_metric_too(world: World) -> None:
    assert "reco_ready 1.0" in world.scraped()
    world.service.reasons = ["partition 3 is being read"]
    assert "reco_ready 0.0" in world.scraped()
    assert world.look().not_ready == ["partition 3 is being read"]


def test_a_loop_that_is_stuck_is_neither_alive_nor_ready(world: World) -> None:
    world.heartbeat.beat()
    world.clock.now_s += 2 * STUCK_AFTER_S
    [reason] = world.look().not_ready
    assert "has not come round" in reason
    assert world.observer.health.not_ready() == world.observer.health.not_alive() == [reason]
    assert "reco_ready 0.0" in world.scraped()


def test_who_ends_leaves_the_board(world: World) -> None:
    world.look()
    world.observer.end()
    assert world.board.present() == []


def test_metrics_and_health_are_served_while_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    service = Service()
    with observed(service, "me", Address("127.0.0.1", 0)):
        said = capsys.readouterr().err
        url = said.split()[2].removesuffix("/metrics,")
        assert "reco_outcomes_applied" in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/readyz").status_code == 200
        service.reasons = ["no"]
        assert httpx.get(f"{url}/readyz").status_code == 503
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/metrics")


def test_an_address_that_is_taken_is_wrong_usage() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(click.UsageError, match="give --metrics another"),
            observed(Service(), "me", Address("127.0.0.1", port)),
        ):
            pytest.fail("never served")
