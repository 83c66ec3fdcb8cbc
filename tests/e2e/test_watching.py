"""What operators see of a system that runs, and of one that has lost a part."""

import os
import signal
from typing import Any

import httpx
import msgspec
import pytest

from infra.free_ports import free_port
from reco.__main__ import run
from shared.events import OUTCOMES, VISITS
from tests.e2e.system import DEADLINE_S, MODEL, EmbeddedSystem
from tests.waiting import ready


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


class Operator:
    """Someone with a terminal and `curl`."""

    def __init__(self, system: EmbeddedSystem, capsys: pytest.CaptureFixture[str]) -> None:
        self._addresses = ["--kafka", system.broker.address, "--redis", system.store_server.url]
        self._capsys = capsys

    def status(self) -> dict[str, Any]:
        look = ["status", "--json", "--model", MODEL, "--interval-s", "0.2", *self._addresses]
        code = run(look)
        shown: dict[str, Any] = msgspec.json.decode(self._capsys.readouterr().out)
        assert code == (0 if shown["healthy"] else 1)
        return shown


def test_a_running_system_is_healthy_and_the_loss_of_each_part_is_named(
    system: EmbeddedSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    operator, server, trainer = Operator(system, capsys), free_address(), free_address()
    system.start("trainer", "train", metrics=trainer)
    system.start("server", "serve", metrics=server, stale_limit_s=1.0)
    system.until(lambda: ready(f"http://{server}") and ready(f"http://{trainer}"), "ready")
    system.produce(100, 100.0)
    system.await_records(OUTCOMES, 200)
    system.settle()
    looks: list[dict[str, Any]] = []

    def healthy() -> bool:
        looks.append(operator.status())
        return bool(looks[-1]["healthy"])

    system.until(healthy, "healthy")
    shown = looks[-1]
    owners = {row["topic"]: row["owner"] for row in shown["partitions"]}
    assert owners[VISITS] == shown["servers"][0]["name"]
    assert owners[OUTCOMES] == shown["trainers"][0]["name"]
    assert sum(row["lag"] for row in shown["partitions"]) == 0
    assert "reco_visits_total 100.0" in httpx.get(f"http://{server}/metrics", timeout=30.0).text

    system.children["trainer"].kill()
    system.until(
        lambda: operator.status()["reasons"] == ["no trainer says that it is there"],
        "noticed that the trainer is gone",
    )
    system.store_server.kill()
    system.until(lambda: not ready(f"http://{server}"), "not ready with a model that is too old")
    [away] = operator.status()["reasons"]
    assert "does not serve" in away
    system.store_server.start()
    system.again("trainer")
    system.until(lambda: ready(f"http://{server}") and ready(f"http://{trainer}"), "ready again")


def test_a_server_that_leaves_says_so_wherever_one_asks(system: EmbeddedSystem) -> None:
    metrics = free_address()
    server = system.start("server", "serve", http="127.0.0.1:0", metrics=metrics, drain="1m")
    api: str = server.lines.get(timeout=DEADLINE_S)["http"]
    system.until(lambda: ready(f"http://{metrics}"), "ready")
    os.kill(server.pid, signal.SIGTERM)
    system.until(lambda: not ready(f"http://{metrics}"), "not ready")
    for url in (api, f"http://{metrics}"):
        refusal = httpx.get(f"{url}/readyz", timeout=30.0).json()
        assert refusal["reasons"] == ["the server is shutting down"]
        assert httpx.get(f"{url}/livez", timeout=30.0).status_code == 200
