"""Kafka and Redis in containers of their own, on ports that they keep through a restart."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from textwrap import dedent
from typing import Any, Final

import pytest
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from testcontainers.community.kafka import RedpandaContainer
from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer

from infra.free_ports import free_ports
from shared.kafka import KafkaCluster
from shared.ports import BrokerUnavailable
from shared.settings import COMPACTED, PARTITIONS
from tests.images import REDIS_IMAGE, REDPANDA_IMAGE
from tests.waiting import until

START_S: Final = 90


def require_docker() -> None:
    """Skip, and say so, where there is no Docker; in CI that is a failure."""
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=START_S)
        if asked.returncode == 0:
            return
    reason = "needs Docker: `docker info` does not answer"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def make_anew(
    cluster: KafkaCluster, topics: Sequence[str], counts: Mapping[str, int] = PARTITIONS
) -> None:
    """Delete topics that are there, and make them with these partition counts."""
    there = [topic for topic in topics if topic in cluster.topics()]
    if there:
        for deleted in cluster.admin.delete_topics(there).values():
            deleted.result()
        until(lambda: not set(there) & cluster.topics().keys(), "topics deleted")
    cluster.create_topics({topic: counts[topic] for topic in topics}, COMPACTED)
    until(lambda: all(_is_led(cluster, topic, counts[topic]) for topic in topics), "topics made")


def _is_led(cluster: KafkaCluster, topic: str, partitions: int) -> bool:
    """Whether every partition answers: a moment after it was made, one may not yet."""
    consumer = cluster.consumer(topic)
    try:
        return all(consumer.watermarks(each).start == 0 for each in range(partitions))
    except BrokerUnavailable:
        return False
    finally:
        consumer.close()


class KafkaServer(RedpandaContainer):
    """A broker on a port of 127.0.0.1 that stays what it is through a restart.

    A second listener is for what comes through a gateway (`tests.integration.gateway`): clients
    are told to come back there.
    """

    def __init__(self) -> None:
        super().__init__(REDPANDA_IMAGE)
        port, self.behind_gateway, self.gateway = free_ports(3)
        self.address = f"127.0.0.1:{port}"
        _publish(self, {9092: port, 9093: self.behind_gateway})

    def tc_start(self) -> None:
        """See `RedpandaContainer.tc_start`; with the listeners that we want."""
        # The broker talks to itself, about transactions, over the first one.
        inside = {"SELF": "0.0.0.0:29092", "HOST": "0.0.0.0:9092", "GATEWAY": "0.0.0.0:9093"}
        outside = {"SELF": "127.0.0.1:29092", "HOST": self.address}
        outside["GATEWAY"] = f"127.0.0.1:{self.gateway}"
        script = f"""
            #!/bin/bash
            exec /usr/bin/rpk redpanda start --mode dev-container --smp 1 --memory 1G \\
            --kafka-addr {_listed(inside)} --advertise-kafka-addr {_listed(outside)}
            """
        self.create_file(dedent(script).strip().encode(), RedpandaContainer.TC_START_SCRIPT)

    def kill(self) -> None:
        """kill -9."""
        self.get_wrapped_container().kill()

    def start_again(self) -> None:
        """Start with the same data and port, and wait until it answers."""
        self.get_wrapped_container().start()
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        until(lambda: _answers(admin), "a broker that answers")


class RedisServer(RedisContainer):
    """A Redis that writes an append-only file, on a port of 127.0.0.1 that stays what it is.

    Args:
        options: further ones of redis-server.
        files: contents to put into the container before it starts, by path.
    """

    def __init__(self, *options: str, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__(REDIS_IMAGE)
        port, self.tls_port = free_ports(2)
        self.url = f"redis://127.0.0.1:{port}/0"
        self.with_command(["redis-server", "--appendonly", "yes", *options])
        _publish(self, {6379: port, 6380: self.tls_port})
        for path, content in (files or {}).items():
            self.with_copy_into_container(content, path)

    def get_container_host_ip(self) -> str:
        """Where its ports are published."""
        return "127.0.0.1"

    def kill(self) -> None:
        """kill -9."""
        self.get_wrapped_container().kill()

    def start_again(self) -> None:
        """Start with the same data and port, and wait until it answers."""
        self.get_wrapped_container().start()
        until(self._answers, "a Redis that answers")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def _listed(listeners: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in listeners.items())


def _publish(container: DockerContainer, ports: Mapping[int, int]) -> None:
    published: dict[str, Any] = container.ports
    published.clear()
    published.update({str(inside): ("127.0.0.1", port) for inside, port in ports.items()})


def _answers(admin: AdminClient) -> bool:
    try:
        admin.list_topics(timeout=1.0)
    except KafkaException:
        return False
    return True
