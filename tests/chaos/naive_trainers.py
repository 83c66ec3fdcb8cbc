"""The naive trainers of a run: killed as ours are, then held against the log."""

import itertools
import random
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec
import redis
from confluent_kafka import Consumer, TopicPartition

from reco.fleet import Child
from shared.arm_statistics import ArmStatistics
from shared.events import OUTCOMES
from shared.settings import PARTITIONS
from tests.chaos.naive import decode_good, key_of_state

MEMBERS: Final = 2
_D: Final = 15
_PARTITIONS: Final = range(PARTITIONS[OUTCOMES])
_TIMEOUT_S: Final = 10.0


class Damage(msgspec.Struct, frozen=True):
    """What the naive way would have cost."""

    outcomes: int
    """That it should hold."""
    lost: int
    double: int


class NaiveTrainers:
    """Two of them, in a group and with rows of their own for each fault."""

    def __init__(self, kafka: str, url: str, logs: Path) -> None:
        self.children: list[Child] = []
        self._kafka = kafka
        self._url = url
        self._logs = logs
        self._client: Any = redis.Redis.from_url(url, socket_timeout=5.0)
        self._numbers = itertools.count()
        self._group = ""
        self._from: dict[int, int] = {}

    def start(self) -> None:
        """Start from the log's end with empty rows."""
        self._group = f"naive-{next(self._numbers)}"
        consumer = self._consumer()
        self._from = {}
        for partition in _PARTITIONS:
            _, end = consumer.get_watermark_offsets(TopicPartition(OUTCOMES, partition), _TIMEOUT_S)
            self._from[partition] = end
        consumer.commit(
            offsets=[TopicPartition(OUTCOMES, p, end) for p, end in self._from.items()],
            asynchronous=False,
        )
        consumer.close()
        self.children = [
            Child(
                f"naive-{number}",
                [self._kafka, self._url, self._group],
                self._logs / f"naive-{number}.log",
                module="tests.chaos.naive",
                environment={"KAFKA_GROUP_INSTANCE_ID": f"naive-{number}"},
            )
            for number in range(MEMBERS)
        ]

    def some(self, chance: random.Random) -> list[Child]:
        """Any one of them, if they take part."""
        return [chance.choice(self.children)] if self.children else []

    def mend(self) -> None:
        """Start those that have died again; the naive way dies of every error."""
        for child in self.children:
            if not child.alive and not child.finished:
                child.start()

    def stop(self) -> None:
        """End them; what they were doing they finish."""
        for child in self.children:
            child.stop()

    def damage(self) -> Damage:
        """Stop them, and hold their rows against the log up to what they have committed."""
        self.stop()
        held: Counter[int] = Counter()
        for partition in _PARTITIONS:
            rows = self._client.hgetall(key_of_state(self._group, partition))
            statistics = ArmStatistics(_D)
            statistics.load({int(arm): row for arm, row in rows.items()})
            held.update(dict(zip(statistics.arms, statistics.n.tolist(), strict=True)))
            self._client.delete(key_of_state(self._group, partition))
        self.children = []
        due = self._due()
        lost, double = due - held, held - due  # of Counters: what is positive
        return Damage(due.total(), lost.total(), double.total())

    def _due(self) -> Counter[int]:
        """Good outcomes of each arm between where they began and what they have committed."""
        due: Counter[int] = Counter()
        consumer = self._consumer()
        committed = consumer.committed(
            [TopicPartition(OUTCOMES, partition) for partition in _PARTITIONS], timeout=_TIMEOUT_S
        )
        until = {at.partition: at.offset for at in committed}
        consumer.assign([TopicPartition(OUTCOMES, p, start) for p, start in self._from.items()])
        left = set(_PARTITIONS)
        while left:
            for message in consumer.consume(5_000, 0.1):
                partition = message.partition()
                at_end = message.error() is not None
                if at_end or message.offset() >= until[partition]:
                    left.discard(partition)
                elif outcome := decode_good(message.value()):
                    due[outcome.product_id] += 1
        consumer.close()
        return due

    def _consumer(self) -> Any:
        return Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": self._group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )
