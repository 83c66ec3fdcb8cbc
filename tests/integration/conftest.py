"""A real broker and store, started by the first test that wants them, one of each per worker."""

import itertools
import os
from collections.abc import Iterator

import pytest

from shared.kafka import KafkaCluster
from tests.integration.containers import START_S, KafkaServer, RedisServer, require_docker

_numbers = itertools.count()


@pytest.fixture(scope="session")
def docker() -> None:
    """There is Docker."""
    require_docker()


@pytest.fixture(scope="session")
def kafka(docker: None) -> Iterator[KafkaServer]:
    """A broker for tests that leave it running."""
    server = KafkaServer()
    try:
        yield server.start(timeout=START_S)
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_server(docker: None) -> Iterator[RedisServer]:
    """A store for tests that leave it running, and use a model name of their own."""
    server = RedisServer()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def cluster(kafka: KafkaServer) -> KafkaCluster:
    """Our adapter, connected."""
    return KafkaCluster(kafka.address)


@pytest.fixture
def name() -> str:
    """One that no other test of this run uses: for a topic, a group, a model."""
    return f"test-{os.getpid()}-{next(_numbers)}"
