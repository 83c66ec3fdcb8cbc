"""A real Prometheus in a container that scrapes exporters of this process."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from docker.client import DockerClient
from testcontainers.core.container import DockerContainer

from infra.free_ports import free_port
from tests.dashboard import PROMETHEUS

IMAGE = os.environ.get("PROMETHEUS_IMAGE", "prom/prometheus:v3.5.0")
DEADLINE_S = 180.0

_T = TypeVar("_T")


class Prometheus:
    """What is asked of it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query; fails if it does not parse."""
        answer = self._answer("query", query=expression)
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def rules(self) -> dict[str, dict[str, Any]]:
        """The loaded rules by name, with their health and state."""
        groups = self._answer("rules")["data"]["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def evaluated(self) -> list[datetime]:
        """When each rule was evaluated last."""
        return [datetime.fromisoformat(rule["lastEvaluation"]) for rule in self.rules().values()]

    def _answer(self, path: str, **params: str) -> dict[str, Any]:
        answer = httpx.get(f"{self._url}/api/v1/{path}", params=params, timeout=30.0)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            answer.raise_for_status()  # it listens, and is not up yet
        found: dict[str, Any] = answer.json()
        return found

    def until(self, ask: Callable[[], _T], what: str) -> _T:
        """Ask until the answer is truthy."""
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            try:
                if found := ask():
                    return found
            except httpx.HTTPError:
                pass  # not up yet
            time.sleep(0.25)
        raise AssertionError(f"never {what}")


@contextmanager
def running(folder: Path, targets: dict[str, list[str]]) -> Iterator[Prometheus]:
    """Prometheus with our rules, scraping these addresses by job, every second.

    It shares this machine's network, where the exporters listen on the loopback.
    """
    jobs = [
        {"job_name": job, "static_configs": [{"targets": addresses}]}
        for job, addresses in targets.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["/rules/rules.yml"],
        "scrape_configs": jobs,
    }
    folder.chmod(0o755)
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    container = (
        DockerContainer(IMAGE)
        .with_kwargs(network_mode="host")
        .with_volume_mapping(str(folder), "/configured", "ro")
        .with_volume_mapping(str(PROMETHEUS), "/rules", "ro")
        .with_command(
            f"--config.file=/configured/prometheus.yml --storage.tsdb.path=/tmp/prometheus "
            f"--web.listen-address=127.0.0.1:{port}"
        )
    )
    with container:
        yield Prometheus(f"http://127.0.0.1:{port}")


def check(folder: Path) -> str:
    """What promtool says of the configuration in a folder; raises if that is an error."""
    output = DockerClient.from_env().containers.run(
        IMAGE,
        ["check", "config", "/etc/prometheus/prometheus.yml"],
        entrypoint="promtool",
        volumes={str(folder): {"bind": "/etc/prometheus", "mode": "ro"}},
        remove=True,
        stderr=True,
    )
    return bytes(output).decode()
