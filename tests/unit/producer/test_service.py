import itertools
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

import pytest

from producer.service import BATCH, TICK_S, Counts, VisitProducer, send_outcomes
from producer.simulate import Shoppers
from shared.catalogue import User
from shared.events import OUTCOMES, VISITS, Outcome, Visit, decode_outcome, decode_visit, key_of
from shared.partitioner import partition_of
from shared.ports import BrokerUnavailable, Delivered
from shared.testing import FakeBroker, FakeClock, FakeProducer

NOW: Final = datetime(2026, 11, 24, 7, tzinfo=UTC)
PARTITIONS: Final = 3
USERS: Final = [
    User(number, f"User {number}", "Perth", 20 + number, "F", -31.95, 115.86, "Search")
    for number in range(1, 21)
]


class FakeStop:
    """Waiting moves the clock; `after_s` sets it by itself."""

    def __init__(self, clock: FakeClock, after_s: float | None = None) -> None:
        self.waits = 0
        self._clock = clock
        self._after_s = after_s
        self._set = False

    def set(self) -> None:
        self._set = True

    def is_set(self) -> bool:
        return self._set or (self._after_s is not None and self._clock() >= self._after_s)

    def wait(self, timeout: float | None = None) -> bool:
        self.waits += 1
        assert self.waits < 10_000, "the loop waits for ever"
        self._clock.now_s += timeout or 0.0
        return self.is_set()


class Bench:
    """A producer on a fake broker, and what came of it."""

    def __init__(self, rate: float = 0.0, after_s: float | None = None) -> None:
        self.broker = FakeBroker({VISITS: PARTITIONS, OUTCOMES: PARTITIONS})
        self.clock = FakeClock()
        self.stop = FakeStop(self.clock, after_s)
        self.on_progress: Callable[[Counts], None] = lambda counts: None
        self.shoppers = Shoppers(USERS, 7, "run")
        self.producer = self.broker.producer()
        self.service = VisitProducer(
            self.producer,
            self.shoppers,
            rate,
            clock=self.clock,
            utc_now=lambda: NOW,
            progress=lambda counts: self.on_progress(counts),
        )

    def run(self, indices: Iterable[int]) -> Counts:
        self.service.run(indices, self.stop)
        return self.service.counts

    def visits(self) -> list[Visit]:
        """What the broker holds, by visit_id."""
        found = [
            decode_visit(record.value or b"")
            for partition in range(PARTITIONS)
            for record in self.broker.records(VISITS, partition)
        ]
        return sorted(found, key=lambda visit: visit.visit_id)


def test_a_count_sends_exactly_these_visits_once() -> None:
    bench = Bench()
    count = 2 * BATCH + 3
    assert bench.run(range(count)) == Counts(count, count)
    assert bench.visits() == [bench.shoppers.visit(index, NOW) for index in range(count)]


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1])
def test_any_count_ends_by_itself(count: int) -> None:
    for rate in (0.0, 5_000.0):
        bench = Bench(rate)
        assert bench.run(range(count)) == Counts(count, count)
        assert len(bench.visits()) == count


def test_given_numbers_may_have_gaps() -> None:
    bench = Bench()
    bench.run([3, 1, 12])
    ids = [bench.shoppers.visit_id(index) for index in (1, 3, 12)]
    assert [visit.visit_id for visit in bench.visits()] == ids


def test_a_user_stays_in_one_partition() -> None:
    bench = Bench()
    bench.run(range(500))
    for partition in range(PARTITIONS):
        for record in bench.broker.records(VISITS, partition):
            user_id = decode_visit(record.value or b"").user_id
            assert record.key == key_of(user_id)
            assert partition == partition_of(key_of(user_id), PARTITIONS)


@pytest.mark.parametrize("rate", [1.0, 7.0, 100.0, 2_500.0])
def test_the_rate_is_held_by_the_clock(rate: float) -> None:
    bench = Bench(rate, after_s=3.0)
    sent = bench.run(itertools.count()).sent
    # One at once, and up to a tick's worth that was not due yet when it ended.
    assert 3.0 * rate - rate * TICK_S - 1 <= sent <= 3.0 * rate + 1


def test_a_slow_rate_starts_with_one_visit_at_once() -> None:
    bench = Bench(rate=0.001, after_s=1.0)
    assert bench.run(itertools.count()).sent == 1


def test_a_late_tick_catches_up_in_batches() -> None:
    bench = Bench(rate=100.0, after_s=40.0)
    steps: list[int] = []

    def stall_once(counts: Counts) -> None:
        if not steps:
            bench.clock.now_s += 30.0
        steps.append(counts.sent)

    bench.on_progress = stall_once
    sent = bench.run(itertools.count()).sent
    assert sent == pytest.approx(4_000, abs=2)
    assert steps[:4] == [1, 1_001, 2_001, 3_001]


def test_without_a_rate_it_never_waits() -> None:
    bench = Bench()
    bench.run(range(5 * BATCH))
    assert bench.stop.waits == 0


def test_on_stop_what_was_sent_is_confirmed_and_nothing_more_is_sent() -> None:
    bench = Bench()
    bench.on_progress = lambda counts: bench.stop.set() if counts.sent >= 3 * BATCH else None
    assert bench.run(itertools.count()) == Counts(3 * BATCH, 3 * BATCH)
    assert len(bench.visits()) == 3 * BATCH


def test_a_stop_before_the_start_sends_nothing() -> None:
    bench = Bench()
    bench.stop.set()
    assert bench.run(itertools.count()) == Counts(0, 0)
    assert bench.visits() == []


def test_progress_tells_only_of_what_the_broker_has() -> None:
    bench = Bench()
    seen: list[tuple[int, int]] = []
    bench.on_progress = lambda counts: seen.append((counts.confirmed, len(bench.visits())))
    bench.run(range(2 * BATCH + 5))
    assert seen == [(BATCH, BATCH), (2 * BATCH, 2 * BATCH), (2 * BATCH + 5, 2 * BATCH + 5)]


def test_a_broker_that_goes_away_is_an_error_and_nothing_counts_as_confirmed() -> None:
    bench = Bench()

    def go_away(counts: Counts) -> None:
        bench.broker.available = False

    bench.on_progress = go_away
    with pytest.raises(BrokerUnavailable):
        bench.run(itertools.count())
    assert bench.service.counts == Counts(sent=2 * BATCH, confirmed=BATCH)
    assert len(bench.visits()) == BATCH


def past_outcomes(count: int) -> list[Outcome]:
    return [
        Outcome(
            outcome_id=f"history-{number}:1",
            decision_id=f"history-{number}",
            product_id=1 + number % 12,
            rank=1,
            reward=0.0,
            x=[0.5],
            encoder_id="encoder",
            decided_at=NOW,
            resolved_at=NOW,
        )
        for number in range(count)
    ]


def sent_outcomes(broker: FakeBroker, partition: int) -> list[Outcome]:
    return [decode_outcome(record.value or b"") for record in broker.records(OUTCOMES, partition)]


def test_history_is_sent_whole_keyed_by_product_and_in_its_order() -> None:
    bench = Bench()
    outcomes = past_outcomes(2 * BATCH + 3)
    assert send_outcomes(bench.producer, outcomes, bench.stop) == len(outcomes)
    for partition in range(PARTITIONS):
        expected = [
            outcome
            for outcome in outcomes
            if partition_of(key_of(outcome.product_id), PARTITIONS) == partition
        ]
        assert sent_outcomes(bench.broker, partition) == expected


def test_history_stopped_half_way_confirms_what_was_sent() -> None:
    bench = Bench()

    def until_stopped() -> Iterable[Outcome]:
        for number, outcome in enumerate(past_outcomes(100)):
            if number == 10:
                bench.stop.set()
            yield outcome

    assert send_outcomes(bench.producer, until_stopped(), bench.stop) == 10
    assert sum(len(sent_outcomes(bench.broker, p)) for p in range(PARTITIONS)) == 10


def test_history_that_the_broker_does_not_take_is_an_error() -> None:
    bench = Bench()
    bench.broker.available = False
    with pytest.raises(BrokerUnavailable):
        send_outcomes(bench.producer, past_outcomes(1), bench.stop)


class CountingProducer(FakeProducer):
    """Knows how many records wait for a flush."""

    def __init__(self, broker: FakeBroker) -> None:
        super().__init__(broker)
        self.waiting = self.most_waiting = 0

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: Iterable[tuple[str, bytes]] = (),
        on_delivered: Delivered | None = None,
    ) -> None:
        super().send(topic, key, value, headers=tuple(headers), on_delivered=on_delivered)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)

    def flush(self, timeout_s: float) -> None:
        super().flush(timeout_s)
        self.waiting = 0


def test_a_long_history_does_not_pile_up_unconfirmed() -> None:
    bench = Bench()
    producer = CountingProducer(bench.broker)
    send_outcomes(producer, past_outcomes(3 * BATCH + 1), bench.stop)
    assert producer.most_waiting == BATCH
    assert producer.waiting == 0
