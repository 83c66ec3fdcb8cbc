"""The whole system as processes, on a broker and a store of its own."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from confluent_kafka import Producer

from infra.embedded import Addresses, EmbeddedBroker, EmbeddedStore
from reco.catalogue_feed import open_products
from reco.fleet import Child
from reco.rebuild import Report
from reco.whole_topic import read_topic
from shared.catalogue import load_data
from shared.events import (
    DECISIONS,
    OUTCOMES,
    VISITS,
    Decision,
    Outcome,
    Visit,
    decode_decision,
    decode_outcome,
    decode_visit,
)
from shared.kafka import KafkaCluster
from shared.redis_presence import RedisBoard
from shared.redis_store import RedisStore
from tests import replay, settling, waiting

_T = TypeVar("_T")

MODEL = "e2e"
DEADLINE_S = 240.0


class System:
    """A broker and a store that are there, everything else in processes of its own."""

    def __init__(self, addresses: Addresses, model: str, data_folder: Path, logs: Path) -> None:
        self.addresses = addresses
        self.model = model
        self.cluster = KafkaCluster(addresses.kafka, patience_s=10.0)
        self.store = RedisStore(addresses.redis, model, timeout_s=10.0)
        self.data = load_data(data_folder)
        self.children: dict[str, Child] = {}
        self._folder = data_folder
        self._logs = logs

    def start(self, name: str, command: str, *flags: str, **options: str | float) -> Child:
        """Start `reco <command> --json …` against this broker and store."""
        arguments = [command, "--json", *flags, "--kafka", self.addresses.kafka]
        arguments += ["--data", str(self._folder)]
        if command != "produce":
            arguments += ["--redis", self.addresses.redis, "--model", self.model]
        if command == "serve":
            arguments += ["--lines-per-s", "0"]
        for option, value in options.items():
            arguments += [f"--{option.replace('_', '-')}", str(value)]
        self.children[name] = Child(name, arguments, self._logs / f"{name}.log", restart=False)
        return self.children[name]

    def start_all(self) -> None:
        """One trainer and one server."""
        self.start("trainer", "train")
        self.start("server", "serve")

    def again(self, name: str) -> None:
        """Start a process that was killed once more."""
        self.children[name].start()

    def await_joined(self) -> None:
        """Wait until all that was started says that it is ready."""
        with closing(RedisBoard(self.addresses.redis, self.model)) as board:

            def joined() -> bool:
                ready = {each.pid for each in board.present() if not each.not_ready}
                return ready >= {child.pid for child in self.children.values()}

            self.until(joined, "all ready")

    def produce(self, count: int, rate: float, name: str = "producer") -> Child:
        """Visits of a run that can be resumed."""
        return self.start(name, "produce", count=count, rate=rate, run_id=name)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is so; fail with the processes' words if it never is.

        Broker and store may be away meanwhile.
        """
        waiting.until(condition, what, DEADLINE_S, self._last_words)

    def records(self, topic: str) -> int:
        """How many records the topic holds."""
        consumer = self.cluster.consumer(topic)
        ends = [consumer.watermarks(p).end for p in range(self.cluster.topics()[topic])]
        consumer.close()
        return sum(ends)

    def await_records(self, topic: str, count: int) -> None:
        """Wait until the topic holds so many."""
        self.until(lambda: self.records(topic) >= count, f"{count} records in {topic}")

    def settle(self) -> None:
        """Wait until every visit is decided and every outcome learned."""
        settling.settle(self.cluster, self.store, self.model, self.until)

    def assert_sound(self, visits: int) -> Report:
        """Every visit sent and decided, every bit of the state that of a replay."""
        self.settle()
        sent = [visit.visit_id for visit in self.visits()]
        assert len(sent) == len(set(sent)) == visits
        assert {decision.visit_id for decision in self.decisions()} == set(sent)
        report = self.compared()
        assert report.violations == []
        assert (report.differing_bits, report.lag) == (0, 0)
        return report

    def compared(self) -> Report:
        """The store beside a replay of the log."""
        products = open_products(self.cluster, self.data)
        return replay.compared(self.cluster, self.store, self.data, newcomers=products)

    def visits(self) -> list[Visit]:
        """All of the topic that can be decoded."""
        return list(self._decoded(VISITS, decode_visit))

    def decisions(self) -> list[Decision]:
        """All of the topic."""
        return list(self._decoded(DECISIONS, decode_decision))

    def outcomes(self) -> list[Outcome]:
        """All of the topic that can be decoded."""
        return list(self._decoded(OUTCOMES, decode_outcome))

    def raw_producer(self) -> Producer:
        """A plain producer, as of someone who is not part of the system."""
        return Producer({"bootstrap.servers": self.addresses.kafka, "log_level": 0})

    def close(self) -> None:
        """End everything."""
        for child in self.children.values():
            child.kill()
        self.store.close()

    def _decoded(self, topic: str, decode: Callable[[bytes], _T]) -> Iterator[_T]:
        for record in read_topic(self.cluster, topic):
            with suppress(msgspec.DecodeError, UnicodeDecodeError):
                yield decode(record.value or b"")

    def learned(self) -> bool:
        """Whether the trainer has applied all there is."""
        return settling.learned(self.cluster, self.store)

    def _last_words(self) -> str:
        words = {name: child.last_words() for name, child in self.children.items()}
        return f"; the processes say {words}"


class EmbeddedSystem(System):
    """Broker and store in this process."""

    def __init__(self, data_folder: Path, logs: Path, *, append_only: bool = False) -> None:
        self.broker = EmbeddedBroker()
        self.store_server = EmbeddedStore(append_only=append_only)
        addresses = Addresses(self.broker.address, self.store_server.url)
        super().__init__(addresses, MODEL, data_folder, logs)

    def close(self) -> None:
        """End everything."""
        super().close()
        self.store_server.close()
        self.broker.close()


@contextmanager
def running(
    data_folder: Path, logs: Path, *, append_only: bool = False
) -> Iterator[EmbeddedSystem]:
    """A system for the length of a block."""
    system = EmbeddedSystem(data_folder, logs, append_only=append_only)
    try:
        yield system
    finally:
        system.close()
