import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.embedded import EmbeddedStore
from shared.ports import StoreUnavailable
from shared.redis_connection import BadAddress
from shared.redis_window import SHARDS, RedisWindow, shard_of
from shared.reward_window import (
    Answer,
    Click,
    Opening,
    Refused,
    Resolution,
    RewardWindow,
    Waiting,
    WindowRules,
)
from shared.testing import FakeWindow
from tests.contract.window_suite import (
    A_WHILE_MS,
    RULES,
    Bench,
    Loop,
    MakeBench,
    WindowSuite,
    click,
    find,
    load,
    open_one,
    take,
    waiting,
)

_T = TypeVar("_T")
models = itertools.count()


class FakeBench:
    """In memory."""

    def __init__(self, rules: WindowRules) -> None:
        self._fake = FakeWindow(rules)
        self.window: RewardWindow = self._fake
        self._loop = Loop()
        self.close = self._loop.close

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run(coroutine)

    def pass_ms(self, milliseconds: int) -> None:
        self._fake.now_ms += milliseconds


class RealBench:
    """In Redis; time passes by moving every stored time back."""

    def __init__(self, url: str, rules: WindowRules) -> None:
        self.model = f"w{next(models)}"
        self.window: RewardWindow = RedisWindow(url, self.model, rules, timeout_s=10.0)
        self.client: Any = redis.Redis.from_url(url)
        self._loop = Loop()

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run(coroutine)

    def pass_ms(self, milliseconds: int) -> None:
        for shard, name in itertools.product(range(SHARDS), ("due", "outbox", "kept")):
            key = f"reco:{{{self.model}:w{shard}}}:{name}"
            self.client.eval(
                "redis.call('DEL', KEYS[1] .. ':none') "  # lets it pass in a full store, too
                "for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do "
                "redis.call('ZINCRBY', KEYS[1], -ARGV[1], id) end",
                1,
                key,
                str(milliseconds),
            )

    def close(self) -> None:
        self._loop.run(self.window.close())
        self._loop.close()
        self.client.close()


@pytest.fixture
def real(server: EmbeddedStore) -> Iterator[Callable[[WindowRules], RealBench]]:
    made: list[RealBench] = []

    def make(rules: WindowRules) -> RealBench:
        made.append(RealBench(server.url, rules))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


class TestFakeWindow(WindowSuite):
    @pytest.fixture
    def make(self) -> Iterator[MakeBench]:
        made: list[FakeBench] = []

        def make(rules: WindowRules) -> Bench:
            made.append(FakeBench(rules))
            return made[-1]

        yield make
        for bench in made:
            bench.close()


class TestRealWindow(WindowSuite):
    @pytest.fixture
    def make(self, real: MakeBench) -> MakeBench:
        return real


def seen(answers: object) -> object:
    """An answer without the time, which differs between the two."""
    if isinstance(answers, Resolution):
        return answers.waiting, answers.clicked_rank, answers.acknowledged, answers.click_trace
    if isinstance(answers, list | tuple):
        return [seen(answer) for answer in answers]
    return answers


_NUMBERS = st.integers(0, 2)
_STEPS = st.one_of(
    st.tuples(st.just("open"), _NUMBERS, st.sampled_from("abc"), st.sampled_from(["r", "s"])),
    st.tuples(st.just("withdraw"), _NUMBERS, st.sampled_from("abc"), st.just("r")),
    st.tuples(
        st.just("click"), _NUMBERS, st.sampled_from([8, 42, 192]), st.sampled_from(["", "t"])
    ),
    st.tuples(st.just("acknowledge"), _NUMBERS, st.none(), st.none()),
    st.tuples(st.sampled_from(["take", "pass"]), st.none(), st.none(), st.none()),
)


def do(bench: Bench, step: tuple[Any, ...]) -> object:
    """One transition, on either."""
    what, number, detail, request = step  # for a click, its trace
    window = bench.window
    if what == "open":
        return bench.run(window.open([Opening(waiting(number, request), detail)]))
    if what == "withdraw":
        return bench.run(window.withdraw([Opening(waiting(number, request), detail).name]))
    if what == "click":
        return bench.run(window.click([Click(f"d-{number}", detail, request)]))
    if what == "acknowledge":
        return bench.run(window.acknowledge([f"d-{number}"]))
    if what == "pass":
        bench.pass_ms(A_WHILE_MS)
        return None
    taken = bench.run(window.take(100))
    return sorted(taken, key=lambda resolution: resolution.waiting.decision.decision_id)


@settings(max_examples=60)
@given(st.lists(_STEPS, max_size=25), st.sampled_from([2, 300]))
def test_the_scripts_do_what_the_model_does(
    server: EmbeddedStore, steps: list[tuple[Any, ...]], most_attempts: int
) -> None:
    rules = RULES._replace(most_attempts=most_attempts)
    fake, real = FakeBench(rules), RealBench(server.url, rules)
    try:
        for step in steps:
            assert seen(do(real, step)) == seen(do(fake, step)), step
            assert load(real) == load(fake)
        for number in range(3):
            found, expected = find(real, number), find(fake, number)
            assert (found is None) == (expected is None)
            if found and expected:
                assert seen(found.resolution) == seen(expected.resolution)
    finally:
        real.close()
        fake.close()


def test_the_keys_are_as_documented(real: Callable[[WindowRules], RealBench]) -> None:
    bench = real(RULES)
    open_one(bench, waiting(1))
    open_one(bench, waiting(2))
    click(bench, 2, 8)
    pattern = f"reco:{{{bench.model}:w*}}:*"
    names = {key.decode().rpartition(":")[2] for key in bench.client.keys(pattern)}
    assert names == {"decisions", "states", "due", "outbox"}


def test_a_store_that_was_started_anew_is_told_the_scripts(
    real: Callable[[WindowRules], RealBench],
) -> None:
    bench = real(RULES)
    open_one(bench, waiting(1))
    bench.client.script_flush()
    assert open_one(bench, waiting(2)) == waiting(2)


def test_a_full_store_refuses_what_is_new_and_lets_the_rest_resolve(
    real: Callable[[WindowRules], RealBench],
) -> None:
    bench = real(RULES)
    for number in range(8):
        open_one(bench, waiting(number))
    click(bench, 7, 42)
    bench.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="memory"):
            open_one(bench, waiting(9))
        assert find(bench, 9) is None
        assert click(bench, 0, 42).resolution is not None
        bench.pass_ms(3 * A_WHILE_MS)
        taken = [each.waiting.decision.decision_id for each in take(bench)]
        assert len(taken) == 8
        bench.run(bench.window.acknowledge(taken))
        assert load(bench)[:2] == (0, 0)
    finally:
        bench.client.config_set("maxmemory", "0")


def test_a_full_store_lets_the_outbox_empty_when_no_window_ends_any_more(
    real: Callable[[WindowRules], RealBench],
) -> None:
    bench = real(RULES)
    open_one(bench, waiting(1))
    click(bench, 1, 42)
    bench.pass_ms(2 * A_WHILE_MS)
    bench.client.config_set("maxmemory", "1")
    try:
        assert [each.waiting for each in take(bench)] == [waiting(1)]
        bench.run(bench.window.acknowledge(["d-1"]))
        assert load(bench).outbox == 0
    finally:
        bench.client.config_set("maxmemory", "0")


def damage(bench: RealBench, name: str, value: str | bytes | None) -> None:
    """What is kept of decision 7 in one of the keys is this instead."""
    key = f"reco:{{{bench.model}:w{shard_of('d-7')}}}:{name}"
    if name == "due":
        bench.client.zrem(key, "d-7")
    elif value is None:
        bench.client.hdel(key, "d-7")
    else:
        bench.client.hset(key, "d-7", value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decisions", "{"),
        ("decisions", '{"decision": 1}'),
        ("decisions", None),
        ("states", "c 9 1790000000000  0"),
        ("states", "c 1 99999999999999999  0"),
        ("states", "c one 1790000000000  0"),
        ("states", "c"),
        ("states", "w a"),
        ("states", b"\xff"),
        ("states", None),
    ],
)
def test_a_decision_that_is_corrupt_is_put_aside_and_holds_no_other_up(
    real: Callable[[WindowRules], RealBench],
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str | bytes | None,
) -> None:
    bench = real(RULES)
    for number in range(20):
        open_one(bench, waiting(number))
        click(bench, number, 42)
    damage(bench, name, value)
    for _ in range(2):
        bench.pass_ms(2 * A_WHILE_MS)
        taken = {each.waiting.decision.decision_id for each in take(bench)}
        assert taken == {f"d-{number}" for number in range(20)} - {"d-7"}
    assert bench.window.put_aside == 1
    assert [record.getMessage().split()[:2] for record in caplog.records] == [["decision", "d-7"]]
    assert load(bench) == (0, 19, 1)
    bench.pass_ms(9 * A_WHILE_MS)
    take(bench)
    assert find(bench, 7) is None


_DAMAGED = [
    ("decisions", "{"),
    ("decisions", '{"decision": 1}'),
    ("decisions", '{"decision": {"slate": [{"product_id": 42}]}}'),
    ("states", "c one 1790000000000  0"),
    ("states", b"\xff"),
    ("states", None),
    ("due", None),
]


@pytest.mark.parametrize(("name", "value"), _DAMAGED)
def test_a_click_on_a_decision_that_is_corrupt_spoils_no_other(
    real: Callable[[WindowRules], RealBench],
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str | bytes | None,
) -> None:
    bench = real(RULES)
    bench.run(bench.window.open([Opening(waiting(number), "a") for number in range(20)]))
    damage(bench, name, value)
    clicks = [Click(f"d-{number}", 42) for number in range(20)]
    answers = bench.run(bench.window.click(clicks))
    expected = [Answer.COUNTED] * 20
    expected[7] = Answer.UNREADABLE
    assert [each.answer for each in answers] == expected
    [record] = caplog.records
    assert "decision d-7" in record.getMessage()


@pytest.mark.parametrize(
    ("name", "value"),
    [*_DAMAGED[:2], ("decisions", '{"request": "request"}'), ("decisions", None)],
)
def test_a_retry_of_a_decision_that_is_corrupt_spoils_no_other(
    real: Callable[[WindowRules], RealBench],
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str | None,
) -> None:
    bench = real(RULES)
    openings = [Opening(waiting(number), "a") for number in range(20)]
    bench.run(bench.window.open(openings))
    damage(bench, name, value)
    expected: list[Waiting | Refused] = [each.waiting for each in openings]
    expected[7] = Refused.UNREADABLE
    assert bench.run(bench.window.open([Opening(waiting(n), "b") for n in range(20)])) == expected
    [record] = caplog.records
    assert "decision d-7" in record.getMessage()


@pytest.mark.parametrize("state", ["w", "wx", "w a b c"])
def test_attempts_that_are_not_as_written_hold_up_no_other(
    real: Callable[[WindowRules], RealBench], state: str
) -> None:
    bench = real(RULES)
    openings = [Opening(waiting(number), "a") for number in range(20)]
    bench.run(bench.window.open(openings))
    damage(bench, "states", state)
    answers = bench.run(bench.window.open([Opening(waiting(n), "b") for n in range(20)]))
    assert answers == [each.waiting for each in openings]
    for attempt in "ab":
        bench.run(bench.window.withdraw([Opening(waiting(n), attempt).name for n in range(20)]))
    assert load(bench).waiting <= 1


def test_a_full_store_lets_attempts_be_withdrawn(real: Callable[[WindowRules], RealBench]) -> None:
    bench = real(RULES)
    for attempt in "ab":
        open_one(bench, waiting(1), attempt)
    bench.client.config_set("maxmemory", "1")
    try:
        for attempt in "abc":
            bench.run(bench.window.withdraw([Opening(waiting(1), attempt).name]))
        assert load(bench) == (0, 0, 1)
    finally:
        bench.client.config_set("maxmemory", "0")


def test_a_decision_of_before_attempts_were_counted_waits_on(
    real: Callable[[WindowRules], RealBench],
) -> None:
    bench = real(RULES)
    open_one(bench, waiting(1))
    states = f"reco:{{{bench.model}:w{shard_of('d-1')}}}:states"
    bench.client.hset(states, "d-1", "w -")  # several were answered
    for attempt in "ab":
        open_one(bench, waiting(1), attempt)
        bench.run(bench.window.withdraw([Opening(waiting(1), attempt).name]))
    assert find(bench, 1) is not None


def test_a_store_that_is_away_is_unavailable_and_named() -> None:
    server = EmbeddedStore()
    bench = RealBench(server.url, RULES)
    open_one(bench, waiting(1))
    server.kill()
    with pytest.raises(StoreUnavailable, match=str(server.port)):
        open_one(bench, waiting(2))
    server.start()
    assert open_one(bench, waiting(2)) == waiting(2)
    bench.close()
    server.close()


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(BadAddress, match="no Redis address"):
        RedisWindow("nonsense", "m", RULES)


def test_new_decisions_of_a_batch_wait_in_one_shard_and_batches_in_all(real: MakeBench) -> None:
    window = real(RULES).window
    batches = [window.names(20) for _ in range(2 * SHARDS)]
    shards = [{shard_of(name) for name in batch} for batch in batches]
    assert [len(shard) for shard in shards] == [1] * (2 * SHARDS)
    assert set.union(*shards) == set(range(SHARDS))
    assert len({name for batch in batches for name in batch}) == 20 * 2 * SHARDS


def test_a_batch_may_hold_decisions_of_all_shards_and_of_several_attempts(real: MakeBench) -> None:
    bench = real(RULES)
    bench.run(bench.window.open([Opening(waiting(7, "other"), "a")]))
    openings = [Opening(waiting(number), "ab"[number % 2]) for number in range(20)]
    answers = bench.run(bench.window.open(openings))
    expected = [Refused.REUSED if i == 7 else each.waiting for i, each in enumerate(openings)]
    assert answers == expected
    bench.run(bench.window.withdraw([Opening(each.waiting, "b").name for each in openings]))
    left = [number for number in range(20) if find(bench, number)]
    assert left == sorted({*range(0, 20, 2), 7})
