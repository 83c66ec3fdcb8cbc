"""A real broker and store, and the composed system, started by the first test that wants them.

They end with these tests: what runs on would slow down all others.
"""

import fcntl
import itertools
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from infra.embedded import Addresses
from shared.catalogue import DataSet
from shared.kafka import KafkaCluster
from shared.settings import PARTITIONS
from tests.e2e.system import System
from tests.integration.command import Reco, reco_with
from tests.integration.compose import Observer, Stack, require_compose
from tests.integration.containers import (
    START_S,
    KafkaServer,
    RedisServer,
    make_anew,
    require_docker,
)

_numbers = itertools.count()
_failed = pytest.StashKey[bool]()


@pytest.fixture(scope="package")
def docker() -> None:
    """There is Docker."""
    require_docker()


@pytest.fixture(scope="package")
def kafka(docker: None) -> Iterator[KafkaServer]:
    """A broker for tests that leave it running."""
    server = KafkaServer()
    try:
        yield server.start(timeout=START_S)
    finally:
        server.stop()


@pytest.fixture(scope="package")
def redis_server(docker: None) -> Iterator[RedisServer]:
    """A store for tests that leave it running, and use a model name of their own."""
    server = RedisServer()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="package")
def cluster(kafka: KafkaServer) -> KafkaCluster:
    """Our adapter, connected."""
    return KafkaCluster(kafka.address)


@pytest.fixture
def topics(cluster: KafkaCluster) -> None:
    """The system's topics, empty."""
    make_anew(cluster, list(PARTITIONS))


@pytest.fixture
def system(
    kafka: KafkaServer,
    redis_server: RedisServer,
    topics: None,
    name: str,
    data_folder: Path,
    tmp_path: Path,
) -> Iterator[System]:
    """Processes on the broker and the store, with a model of their own."""
    system = System(Addresses(kafka.address, redis_server.url), name, data_folder, tmp_path)
    try:
        yield system
    finally:
        system.close()


@pytest.fixture
def reco(kafka: KafkaServer, redis_server: RedisServer, data_folder: Path) -> Reco:
    """`reco` with the addresses in its environment."""
    addresses = {"RECO_KAFKA": kafka.address, "RECO_REDIS": redis_server.url}
    return reco_with({**addresses, "RECO_DATA": str(data_folder), "RECO_PATIENCE_S": "20"})


@pytest.fixture(scope="package")
def composed(run_folder: Path) -> Iterator[Stack]:
    """One for all tests."""
    require_compose()
    with (run_folder / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail("two workers compose a system: give their tests one xdist_group")
        stack = Stack(f"reco-test-{os.getpid()}")
        try:
            stack.up("--build")
            yield stack
        finally:
            stack.remove()


@pytest.fixture
def stack(composed: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The composed system, running and whole; each test leaves it so, or it is mended."""
    yield composed
    if _failed in request.node.stash:
        composed.mend()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture
def observer(stack: Stack, data: DataSet) -> Observer:
    """Whoever looks at it."""
    return Observer(stack, data)


@pytest.fixture
def name() -> str:
    """One that no other test of this run uses: for a topic, a group, a model."""
    return f"test-{os.getpid()}-{next(_numbers)}"
