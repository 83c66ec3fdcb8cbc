"""docker compose: the whole system in containers, as the README starts, scales and stops it."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import redis
import yaml
from confluent_kafka.admin import AdminClient

from shared.catalogue import DataSet
from shared.events import OUTCOMES, decode_outcome
from shared.settings import SERVER_GROUP, TRAINER_GROUP
from tests.integration.compose import (
    CONTEXT,
    MODEL,
    ROOT,
    Observer,
    Stack,
    docker,
    docker_json,
    goes_on,
    require_compose,
)
from tests.waiting import until

pytestmark = [pytest.mark.xdist_group("compose"), pytest.mark.timeout(900)]

LONG_RUNNING = {"redpanda", "redis", "trainer", "server", "producer", "gateway"}
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = sorted(COMPOSE["services"])


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    """Every service of every profile, as compose understands it."""
    require_compose()
    config = ["docker", "compose", "--profile", "*", "config", "--format", "json"]
    text = subprocess.run(config, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    services: dict[str, Any] = json.loads(text)["services"]
    return services


@pytest.mark.parametrize("profile", [None, "ui", "obs", "tools", "*"])
def test_the_file_is_valid_with_every_profile(profile: str | None) -> None:
    require_compose()
    chosen = ["--profile", profile] if profile else []
    done = subprocess.run(
        ["docker", "compose", *chosen, "config", "--quiet"], cwd=ROOT, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_confined(configured: dict[str, Any], service: str) -> None:
    settings = configured[service]
    assert settings["read_only"]
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert {port["host_ip"] for port in settings.get("ports", [])} <= {"127.0.0.1"}
    limits = settings["deploy"]["resources"]["limits"]
    assert int(limits["memory"]) > 0
    assert int(limits["pids"]) > 0
    assert settings["logging"]["options"] == {"max-file": "3", "max-size": "10m"}
    assert "container_name" not in settings


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned_and_chosen_by_variable(service: str) -> None:
    image = COMPOSE["services"][service]["image"]
    assert image.startswith("${")
    name, _, tag = image.rstrip("}").rpartition(":")
    assert "_IMAGE:-" in name
    assert tag not in ("", "latest", "alpine")


def test_it_comes_up_healthy(stack: Stack) -> None:
    states = {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in stack.containers()}
    assert set(states) == LONG_RUNNING
    assert {c["State"]["Health"]["Status"] for c in states.values()} == {"healthy"}


def test_nothing_runs_as_root_or_writes_to_its_image(stack: Stack) -> None:
    for container in stack.containers():
        name, id_ = container["Name"], container["Id"]
        users = {line.split()[0] for line in docker("top", id_, "-eo", "uid,pid").splitlines()[1:]}
        assert users, name
        assert "0" not in users, name
        for path in ("/written", "/usr/written", "/etc/written"):
            done = subprocess.run(["docker", "exec", id_, "touch", path], capture_output=True)
            assert done.returncode != 0, (name, path)
            assert b"Read-only file system" in done.stderr, (name, path)


def test_the_image_has_no_tool_to_install_with(stack: Stack) -> None:
    [server] = stack.containers("server")
    for tool in ("pip", "uv", "gcc"):
        found = ["docker", "exec", server["Id"], "sh", "-c", f"command -v {tool}"]
        assert subprocess.run(found, capture_output=True).returncode != 0, tool
    package = ["docker", "exec", server["Id"], "python", "-c", "import pip"]
    assert b"No module named" in subprocess.run(package, capture_output=True).stderr


def test_the_server_prints_visit_lines(stack: Stack) -> None:
    until(lambda: " -> Recs: [" in stack.run("logs", "server"), "visit lines")


def test_a_topic_is_readable_json(stack: Stack, observer: Observer) -> None:
    until(lambda: observer.learned() > 0, "outcomes")
    text = stack.run("exec", "-T", "redpanda", "rpk", "topic", "consume", OUTCOMES, "-n", "1")
    outcome = decode_outcome(json.loads(text)["value"].encode())
    assert outcome.outcome_id.endswith(f":{outcome.rank}")


def test_replay_from_the_host_finds_no_differing_bit(
    stack: Stack, data_folder: Path, observer: Observer
) -> None:
    until(lambda: observer.learned() > 100, "outcomes learned")
    done = subprocess.run(
        [sys.executable, "-m", "reco", "replay", "--check", "--json", "--data", data_folder],
        cwd=ROOT,
        env={**os.environ, **stack.from_host()},
        capture_output=True,
    )
    report = msgspec.json.decode(done.stdout)
    assert (done.returncode, report["differing_bits"]) == (0, 0), done.stderr
    assert report["outcomes"] > 0


def test_status_says_that_all_is_well(stack: Stack) -> None:
    def well() -> bool:
        status = json.loads(stack.run("run", "--rm", "-T", "reco", "status", "--json", check=False))
        present = all(status[kind] for kind in ("servers", "trainers", "producers"))
        return bool(status["healthy"]) and present

    until(well, "all well")


def test_replay_in_a_container_finds_none_either(stack: Stack) -> None:
    assert "✓ 0 differing bits" in stack.reco("replay", "--check")


def test_servers_come_and_go_and_no_request_fails(stack: Stack) -> None:
    stack.up("--no-recreate", "--scale", "server=3")
    ended = threading.Event()

    def shop(_: int) -> list[tuple[int, str]]:
        """Rank and click until all is over; none is sent again."""
        answers: list[httpx.Response] = []
        with httpx.Client(base_url=stack.http, timeout=30.0) as shopper:
            while not ended.is_set():
                answers.append(shopper.post("/v1/rank", json={"context": CONTEXT}))
                if answers[-1].status_code == 200:
                    ranked = answers[-1].json()
                    click = {"product_id": ranked["slate"][0]["product_id"]}
                    path = f"/v1/decisions/{ranked['decision_id']}/click"
                    answers.append(shopper.post(path, json=click))
        return [(answer.status_code, answer.text) for answer in answers]

    with ThreadPoolExecutor(4) as shoppers:
        shopping = [shoppers.submit(shop, number) for number in range(4)]
        try:
            for server in stack.containers("server"):
                docker("stop", server["Id"])
                docker("start", server["Id"])
                until(partial(healthy, server["Id"]), "healthy again")
        finally:
            ended.set()
        answers = [answer for each in shopping for answer in each.result()]
    assert len(answers) > 100
    assert [(status, text) for status, text in answers if status != 200] == []
    with httpx.Client(base_url=stack.http, timeout=30.0) as client:
        assert client.get("/openapi.json").json()["openapi"].startswith("3.1")
        assert client.get("/metrics").status_code == 404
    stack.up("--no-recreate", "--scale", "server=1")


def healthy(container: str) -> bool:
    status = docker("inspect", "--format", "{{.State.Health.Status}}", container)
    return status.strip() == "healthy"


def test_services_get_along_with_what_they_may_do(stack: Stack, observer: Observer) -> None:
    with redis.Redis.from_url(observer.addresses["RECO_REDIS"]) as admin:
        assert admin.acl_log() == []


def test_a_service_has_its_own_password_and_no_other(stack: Stack) -> None:
    for service, own in (
        ("trainer", {"trainer"}),
        ("server", {"server"}),
        ("producer", {"producer"}),
    ):
        container = stack.containers(service)[0]["Id"]
        found = docker("exec", container, "find", "/run/reco", "-name", "password", check=False)
        assert {path.split("/")[3] for path in found.split()} == own, service
    [store] = stack.containers("redis")
    assert docker("exec", store["Id"], "ls", "/run/reco").split() == ["acl"]


def test_who_has_no_password_is_kept_out(stack: Stack, observer: Observer) -> None:
    address = observer.addresses["RECO_REDIS"].rpartition("@")[2]
    with (
        redis.Redis.from_url(f"redis://{address}") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def members(observer: Observer, group: str) -> list[list[int]]:
    """The partitions of each member of a consumer group."""
    admin = AdminClient({"bootstrap.servers": observer.addresses["RECO_KAFKA"], "log_level": 0})
    described = admin.describe_consumer_groups([group])[group].result()
    return [
        sorted(each.partition for each in member.assignment.topic_partitions)
        for member in described.members
    ]


def divided(observer: Observer, group: str, count: int) -> bool:
    shares = members(observer, group)
    owned = sorted(partition for share in shares for partition in share)
    return len(shares) == count and owned == list(range(12)) and all(shares)


def test_replicas_divide_the_partitions(stack: Stack, observer: Observer) -> None:
    servers, trainers = f"{SERVER_GROUP}-{MODEL}", f"{TRAINER_GROUP}-{MODEL}"
    with stack.told(RECO_SERVERS="3", RECO_TRAINERS="2"):
        stack.up("--no-recreate")
        until(lambda: divided(observer, servers, 3), "three servers")
        until(lambda: divided(observer, trainers, 2), "two trainers")
        stack.up()  # as after any other change
        assert (len(stack.containers("server")), len(stack.containers("trainer"))) == (3, 2)


def test_prometheus_sees_every_replica(stack: Stack) -> None:
    stack.up("--no-recreate", "--scale", "server=3", "--scale", "trainer=2")
    stack.run("--profile", "obs", "up", "-d", "--no-deps", "--wait", "prometheus")
    wanted = {name: len(stack.containers(name)) for name in ("server", "trainer", "producer")}
    assert wanted["server"] == 3
    until(lambda: answering(stack) == wanted, f"{wanted} scraped")
    stack.run("--profile", "obs", "rm", "--stop", "--force", "prometheus")


def test_prometheus_starts_in_an_outage(stack: Stack) -> None:
    stack.run("stop", "server")
    stack.run("--profile", "obs", "up", "-d", "--wait", "prometheus")
    wanted = {name: len(stack.containers(name)) for name in ("trainer", "producer")}
    until(lambda: answering(stack) == wanted, f"{wanted} scraped")
    assert stack.containers("server") == []
    stack.run("--profile", "obs", "rm", "--stop", "--force", "prometheus")
    stack.up()


def answering(stack: Stack) -> dict[str, int]:
    """How many replicas of each service answer Prometheus now."""
    address = f"http://127.0.0.1:{stack.environment['RECO_PROMETHEUS_PORT']}/api/v1/targets"
    targets = httpx.get(address, timeout=30.0).json()["data"]["activeTargets"]
    return dict(Counter(each["labels"]["job"] for each in targets if each["health"] == "up"))


def test_killed_replicas_come_back_and_lose_nothing(stack: Stack, observer: Observer) -> None:
    stack.up("--no-recreate", "--scale", "server=3", "--scale", "trainer=2")
    for victim in ("trainer", "server", "producer"):
        crash(stack, victim)
        goes_on(observer)
    stack.run("stop", "producer")
    observer.assert_sound()
    stack.up("--no-recreate")  # and so the number without --scale


def crash(stack: Stack, service: str) -> None:
    """Kill the service's first container, and wait until Docker has it running again, and well."""
    container = stack.containers(service)[0]
    stack.crash(container)

    def well_again() -> bool:
        [now] = docker_json("inspect", container["Id"])
        state, before = now["State"], container["State"]
        return bool(
            state["StartedAt"] != before["StartedAt"] and state["Health"]["Status"] == "healthy"
        )

    until(well_again, f"{service} again")


@pytest.mark.parametrize("service", ["redis", "redpanda"])
def test_broker_and_store_may_crash(stack: Stack, observer: Observer, service: str) -> None:
    crash(stack, service)
    goes_on(observer)
    stack.run("stop", "producer")
    observer.assert_sound()
    stack.up("--no-recreate")


def test_down_leaves_nothing_and_up_goes_on(
    stack: Stack, observer: Observer, data: DataSet
) -> None:
    stack.run("stop", "producer")
    observer.assert_sound()
    learned, sent, addresses = observer.learned(), observer.visit_ids(), observer.addresses
    stack.down()
    stack.up()
    again = Observer(stack, data)
    assert again.addresses == addresses  # the passwords too
    until(lambda: again.learned() > learned, "learning on")
    stack.run("stop", "producer")
    again.assert_sound()
    assert set(sent) < set(again.visit_ids())
    stack.up()
