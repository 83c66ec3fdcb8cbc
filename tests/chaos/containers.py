"""The broker and the store of a run: real containers, by the `docker` command, made to fail."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final

import redis

from infra.free_ports import free_port
from shared.kafka import KafkaCluster
from shared.ports import BrokerUnavailable
from tests.images import REDIS_IMAGE, REDPANDA_IMAGE

START_TIMEOUT_S: Final = 60.0
_DISK_MB: Final = 192


class DockerFailed(Exception):
    """Docker is not there, or refused; the message says what it said."""


def docker(*words: str) -> str:
    """Run one docker command and return what it printed.

    Raises:
        DockerFailed: it did not succeed.
    """
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise DockerFailed("there is no command `docker`: install Docker and try again") from error
    except subprocess.CalledProcessError as error:
        raise DockerFailed(f"docker {words[0]}: {error.stderr.strip()}") from error
    return done.stdout.strip()


class Container:
    """One container that may be killed, paused and started again, on the same port and data."""

    def __init__(self, name: str, image: str, options: Sequence[str], command: Sequence[str]):
        self.name = name
        docker("run", "--detach", "--name", name, *options, image, *command)

    def kill(self) -> None:
        """SIGKILL to all in it."""
        docker("kill", self.name)

    def start(self) -> None:
        """Start it again; returns when the process runs, not when it serves."""
        docker("start", self.name)

    def pause(self) -> None:
        """Freeze it: it neither answers nor refuses."""
        docker("pause", self.name)

    def unpause(self) -> None:
        """Let it go on."""
        docker("unpause", self.name)

    def remove(self) -> None:
        """Remove it, whatever it does now."""
        with contextlib.suppress(DockerFailed):
            docker("rm", "--force", "--volumes", self.name)


class Broker(Container):
    """One Kafka-protocol broker on a free loopback port."""

    def __init__(self, name: str) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        command = ["redpanda", "start", "--mode", "dev-container", "--smp", "1"]
        # The same port inside: the broker reaches itself by the address that it advertises.
        command += ["--kafka-addr", f"0.0.0.0:{port}", "--advertise-kafka-addr", self.address]
        super().__init__(name, REDPANDA_IMAGE, ["--publish", f"{self.address}:{port}"], command)
        self.await_answer()

    def start(self) -> None:
        """Start it again; returns when it answers, its log read."""
        super().start()
        self.await_answer()

    def await_answer(self) -> None:
        """Wait until it serves."""
        _until(self._answers, f"the broker {self.name} does not come up")

    def _answers(self) -> bool:
        try:
            return bool(KafkaCluster(self.address, patience_s=1.0).cluster_id)
        except BrokerUnavailable:
            return False


class Store(Container):
    """Redis with an append-only file on a small disk of its own.

    A keeper, a second container on the same volume, holds the disk while Redis is down, and
    reaches its files.
    """

    def __init__(self, name: str) -> None:
        self._volume, keeper = f"{name}-disk", f"{name}-keeper"
        options = f"o=size={_DISK_MB}m,mode=1777"
        kind = ["--driver", "local", "--opt", "type=tmpfs", "--opt", "device=tmpfs"]
        docker("volume", "create", *kind, "--opt", options, self._volume)
        mount = ["--volume", f"{self._volume}:/data"]
        self._keeper = Container(keeper, REDIS_IMAGE, [*mount, "--user", "0"], ["sleep", "86400"])
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        command = ["redis-server", "--appendonly", "yes", "--appendfsync", "everysec"]
        command += ["--save", "", "--maxmemory-policy", "noeviction"]
        command += ["--auto-aof-rewrite-min-size", "16mb"]
        publish = ["--publish", f"127.0.0.1:{port}:6379"]
        super().__init__(name, REDIS_IMAGE, [*mount, *publish], command)
        self.client = redis.Redis.from_url(self.url, socket_timeout=5.0)
        self.await_answer()

    def start(self) -> None:
        """Start it again; returns when it answers, its file loaded."""
        super().start()
        self.await_answer()

    def await_answer(self) -> None:
        """Wait until it serves."""
        _until(self._answers, f"the store {self.name} does not come up")

    def shell(self, script: str) -> None:
        """Run a script where its files are, /data."""
        docker("exec", self._keeper.name, "sh", "-c", f"cd /data && {script}")

    def remove(self) -> None:
        """Remove it, its keeper and its disk."""
        super().remove()
        self._keeper.remove()
        with contextlib.suppress(DockerFailed):
            docker("volume", "rm", "--force", self._volume)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


def _until(condition: Callable[[], bool], failure: str) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise DockerFailed(f"{failure} within {START_TIMEOUT_S:g} s")
        time.sleep(0.02)
