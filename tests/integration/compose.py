"""The composed system under a project name and ports of its own, driven as a user drives it."""

import json
import os
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from infra.free_ports import free_ports
from reco.rebuild import Report
from reco.whole_topic import read_topic
from server.api_types import RankRequest
from server.openapi import EXAMPLES
from shared.catalogue import DataSet
from shared.events import DECISIONS, VISITS, decode_decision, decode_visit
from shared.kafka import KafkaCluster
from shared.redis_store import RedisStore
from tests import replay
from tests.settling import settle
from tests.waiting import until

ROOT: Final = Path(__file__).parents[2]
MODEL: Final = "linucb"
HEALTHY_S: Final = 180
CONTEXT: Final = EXAMPLES[RankRequest]["context"]
"""Of a visit."""


def require_compose() -> None:
    """Skip, and say so, where there is no Docker with compose; in CI that is a failure."""
    for command in (["docker", "version"], ["docker", "compose", "version"]):
        if not shutil.which("docker") or subprocess.run(command, capture_output=True).returncode:
            reason = f"needs Docker with compose: `{' '.join(command)}` does not answer"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)


class Stack:
    """`docker compose` for one project."""

    def __init__(self, project: str) -> None:
        self._label = f"label=com.docker.compose.project={project}"
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self.environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": project,
            "RECO_IMAGE": f"livereco:{project}",
            "RECO_REWARD_WINDOW": "20s",
            "RECO_RANK_BUDGET_MS": "5000",  # whoever runs the tests may be busy
            **ports,
        }
        self.http = f"http://127.0.0.1:{ports['RECO_HTTP_PORT']}"

    def run(
        self,
        *arguments: str,
        timeout_s: float = 300.0,
        check: bool = True,
        input_text: str | None = None,
    ) -> str:
        """What `docker compose …` prints; it has to succeed."""
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            input=input_text or "",
        )
        if check and done.returncode:
            words = self.run("logs", "--tail", "20", check=False) if "up" in arguments else ""
            raise AssertionError(f"compose {' '.join(arguments)}: {done.stderr}\n{words}")
        return done.stdout

    @contextmanager
    def told(self, **variables: str) -> Iterator[None]:
        """As with these in `.env`."""
        before = self.environment
        self.environment = {**before, **variables}
        try:
            yield
        finally:
            self.environment = before

    def up(self, *options: str) -> None:
        """Start what is not running, and wait until it is healthy."""
        self.run("up", "-d", "--wait", "--wait-timeout", str(HEALTHY_S), *options, timeout_s=900)

    def down(self) -> None:
        """Remove all but the volumes, as a user does.

        Docker 20.10 may miscount what is in a network: removing eight containers at once
        from one network left it with "active endpoints", and nothing in it, once in 22 times
        (moby/moby#43286). `up` takes such a network again, so this is not held against us.
        """
        try:
            self.run("down")
        except AssertionError as error:
            if "has active endpoints" not in str(error):
                raise
            left = docker("network", "ls", "--quiet", "--filter", self._label).split()
            assert not any(
                docker_json("network", "inspect", each)[0]["Containers"] for each in left
            )
        else:
            assert docker("network", "ls", "--quiet", "--filter", self._label) == ""
        assert docker("ps", "--all", "--quiet", "--filter", self._label) == ""

    def mend(self) -> None:
        """Begin anew, on the same volumes, after a test that failed at who knows what point."""
        print(self.run("logs", "--tail", "20", check=False))
        paused = ("--filter", "status=paused")
        for each in docker("ps", "--quiet", "--filter", self._label, *paused).split():
            docker("unpause", each)
        self.run("--profile", "*", "down", check=False)
        self.up()

    def remove(self) -> None:
        """Leave nothing of it behind."""
        with suppress(subprocess.TimeoutExpired):
            self.run("--profile", "*", "down", "--volumes", "--timeout", "5", check=False)
        docker("image", "rm", "--force", self.environment["RECO_IMAGE"], check=False)

    def reco(self, *arguments: str) -> str:
        """What `reco …` prints in a container of its own, as the store's administrator."""
        return self.run("run", "--rm", "-T", "reco", *arguments)

    def read_snapshot(self, name: str) -> bytes:
        """A file of the volume `snapshots`."""
        command = ["run", "--rm", "-T", "--entrypoint", "cat", "reco", f"/snapshots/{name}"]
        done = subprocess.run(
            ["docker", "compose", *command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            check=True,
        )
        return done.stdout

    def write_snapshot(self, name: str, content: bytes) -> None:
        """Put a file into the volume `snapshots`."""
        command = ["run", "--rm", "-T", "--entrypoint", "sh", "reco"]
        subprocess.run(
            ["docker", "compose", *command, "-c", f"cat > /snapshots/{name}"],
            cwd=ROOT,
            env=self.environment,
            input=content,
            capture_output=True,
            check=True,
        )

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """What Docker knows of the running containers, lowest number first."""
        ids = self.run("ps", "--quiet", *([service] if service else [])).split()
        found = [docker_json("inspect", each)[0] for each in ids]
        return sorted(found, key=lambda each: str(each["Name"]))

    def crash(self, container: Mapping[str, Any]) -> None:
        """SIGKILL for all processes inside but the first, which then ends as they did."""
        docker("exec", str(container["Id"]), "sh", "-c", "kill -9 -1", check=False)

    def from_host(self) -> dict[str, str]:
        """RECO_KAFKA, RECO_REDIS and what else `infra/compose-env` exports."""
        script = subprocess.run(
            [ROOT / "infra" / "compose-env"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        words = shlex.split(script.stdout)
        return dict(word.split("=", 1) for word in words if "=" in word)


class Observer:
    """Looks at the composed system from the host, with the adapters that it is made of."""

    def __init__(self, stack: Stack, data: DataSet) -> None:
        self.addresses = stack.from_host()
        self.cluster = KafkaCluster(self.addresses["RECO_KAFKA"], patience_s=10.0)
        self.store = RedisStore(self.addresses["RECO_REDIS"], MODEL)
        self._data = data

    def visit_ids(self) -> list[str]:
        """Of every visit in the topic that is one."""
        ids = []
        for record in read_topic(self.cluster, VISITS):
            with suppress(msgspec.DecodeError):
                ids.append(decode_visit(record.value or b"").visit_id)
        return ids

    def decided(self) -> list[str]:
        """The visit of every decision in the topic."""
        records = read_topic(self.cluster, DECISIONS)
        return [decode_decision(record.value or b"").visit_id for record in records]

    def compared(self) -> Report:
        """The store beside a replay of the log."""
        return replay.compared(self.cluster, self.store, self._data)

    def learned(self) -> int:
        """How far the trainers are, over all partitions."""
        return sum(position.next_offset for position in self.store.positions(range(12)) if position)

    def settle(self) -> None:
        """Nobody sends any more: wait until every visit is decided, every outcome learned."""
        settle(self.cluster, self.store, MODEL, until)

    def assert_sound(self) -> Report:
        """Nobody sends any more: every visit decided once, every bit that of a replay."""
        self.settle()
        sent = Counter(self.visit_ids())
        decided = Counter(visit_id for visit_id in self.decided() if visit_id in sent)
        assert max(sent.values()) == 1
        assert sent - decided == Counter(), "visits without a decision"
        assert decided - sent == Counter(), "visits decided twice"
        report = self.compared()
        assert (report.violations, report.differing_bits, report.lag) == ([], 0, 0)
        return report


def goes_on(observer: Observer) -> None:
    """Wait until more is learned than now, or than when broker and store answer again."""
    reached: list[int] = []

    def learning() -> bool:
        reached.append(observer.learned())
        return reached[-1] > reached[0] + 50

    until(learning, "learning again")


def docker(*arguments: str, check: bool = True) -> str:
    """What `docker …` prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def docker_json(*arguments: str) -> Any:
    """What `docker …` prints, decoded."""
    return json.loads(docker(*arguments))


PORTS: Final = (
    "RECO_KAFKA_PORT",
    "RECO_REDIS_PORT",
    "RECO_HTTP_PORT",
    "RECO_CONSOLE_PORT",
    "RECO_PROMETHEUS_PORT",
    "RECO_GRAFANA_PORT",
)
