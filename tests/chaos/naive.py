"""A trainer as one would write it at first, to show what the protections are for.

It reads a batch, adds it to the rows in Redis, and then commits the offset: no compare-and-set,
no offset beside the rows. The arithmetic and the rows are the real ones.

    python -m tests.chaos.naive KAFKA REDIS GROUP
"""

import sys
from itertools import groupby
from operator import methodcaller
from typing import Any, Final

import msgspec
import numpy as np
import redis
from confluent_kafka import Consumer, KafkaException

from reco.options import kafka_settings
from reco.process import stop_on_signals
from shared.arm_statistics import ArmStatistics
from shared.events import OUTCOMES, Outcome, decode_outcome
from shared.kafka_connection import settings_from

_BATCH: Final = 500
_POLL_S: Final = 0.1


def key_of_state(group: str, partition: int) -> str:
    """The hash with the rows of a partition."""
    return f"{group}:{partition}"


def decode_good(value: bytes | None) -> Outcome | None:
    """The outcome, or None for the load's poison."""
    try:
        outcome = decode_outcome(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return outcome if 0.0 <= outcome.reward <= 1.0 else None


def main(kafka: str, url: str, group: str) -> None:
    """Run until SIGTERM; any error ends the process, and whoever watches starts it again."""
    stop = stop_on_signals()
    consumer: Any = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "log_level": 0,
            **settings_from(kafka_settings()),
        }
    )
    client = redis.Redis.from_url(url, socket_timeout=2.0)
    consumer.subscribe([OUTCOMES])
    while not stop.is_set():
        messages = [m for m in consumer.consume(_BATCH, _POLL_S) if m.error() is None]
        if not messages:
            continue
        messages.sort(key=methodcaller("partition"))
        for partition, batch in groupby(messages, methodcaller("partition")):
            _apply(client, key_of_state(group, partition), list(batch))
        consumer.commit(asynchronous=False)
    consumer.close()


def _apply(client: Any, key: str, messages: list[Any]) -> None:
    good = [(m.offset(), o) for m in messages if (o := decode_good(m.value())) is not None]
    if not good:
        return
    arms = list(dict.fromkeys(outcome.product_id for _, outcome in good))
    stored = zip(arms, client.hmget(key, arms), strict=True)
    statistics = ArmStatistics(len(good[0][1].x))
    statistics.load({arm: row for arm, row in stored if row})
    statistics.add(
        np.array([outcome.product_id for _, outcome in good], np.int64),
        np.array([outcome.x for _, outcome in good]),
        np.array([outcome.reward for _, outcome in good]),
        np.array([offset for offset, _ in good], np.int64),
    )
    client.hset(key, mapping=statistics.pack(arms))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (redis.RedisError, KafkaException) as error:
        sys.exit(f"the naive trainer dies of: {error}")
