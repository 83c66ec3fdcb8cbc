"""One trace from visit to learned outcome, through the real SDK and the fakes' records."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime

import click
import httpx
import msgspec
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from producer.service import VisitProducer
from producer.simulate import Shoppers
from reco.observed_trainer import wrote
from reco.shoppers import feedback_rule, reaction
from reco.traces import open_trace
from server.delivery import AtLeastOnce
from server.experiment import Traffic
from server.freshness import FreshnessProbe
from server.http_traces import HttpTraces
from server.model_view import ModelView
from server.scorer import Policy
from server.stream import StreamServer
from shared.catalogue import DataSet
from shared.events import DEAD_LETTERS, DECISIONS, OUTCOMES, VISITS
from shared.metrics import TrainerMetrics
from shared.otel import OpenTelemetryTracer
from shared.ports import Record
from shared.reward_window import WindowRules
from shared.testing import Crash, CrashPoints, FakeBroker, FakeClock, FakeStore, FakeWindow
from shared.tracing import Trace, context_in, tracing, untraced
from tests.scenario import NOON
from tests.unit.server.api_bench import CONTEXT, Bench
from trainer.apply import Rules
from trainer.loop import Trainer

TOPICS = {VISITS: 2, DECISIONS: 2, OUTCOMES: 3, DEAD_LETTERS: 1}


class Never:
    """Stops nothing."""

    def is_set(self) -> bool:
        return False

    def wait(self, timeout: float | None = None) -> bool:
        return False


class World:
    """Producer, server and trainer in this process, on one fake broker and store."""

    def __init__(self, data: DataSet, tracer: OpenTelemetryTracer | None) -> None:
        self._data, self._tracer = data, tracer
        self.broker, self.store, self.clock = FakeBroker(TOPICS), FakeStore(), FakeClock()

    def run(self, visits: int) -> None:
        self.produce(visits)
        self.serve()
        self.train()

    def produce(self, visits: int) -> None:
        VisitProducer(
            self.broker.producer(),
            Shoppers(self._data.users, 5, "r"),
            0.0,
            clock=self.clock,
            utc_now=self._now,
            trace=self._trace("visit", starts=True),
        ).run(range(visits), Never())

    def serve(self) -> None:
        view = ModelView(self.store, self._data.arms, self._data.config, 3, 1.0, self.clock)
        view.refresh()
        consumer = self.broker.consumer(VISITS, "servers")
        server = StreamServer(
            consumer,
            AtLeastOnce(self.broker.producer()),
            view,
            Traffic.to(Policy("linucb", alpha=0.5)),
            self._data.encoder,
            reaction(self._data, 5, 5),
            feedback_rule("cascade", 5),
            source=lambda: self.broker.source(VISITS),
            k=5,
            utc_now=self._now,
            clock=self.clock,
            freshness=FreshnessProbe(3, self.clock),
            trace=self._trace("decide"),
        )
        consumer.subscribe(server)
        server.run_once(0.0)

    def train(self) -> None:
        consumer = self.broker.consumer(OUTCOMES, "trainers", reset="error")
        trainer = Trainer(
            consumer,
            self.broker.producer(),
            self.store,
            lambda: self.broker.source(OUTCOMES),
            Rules.of(self._data.config, self._data.arms, 3),
            writer="w",
            clock=self.clock,
            wrote=wrote(TrainerMetrics(), self._trace("learn")),
        )
        consumer.subscribe(trainer)
        for _ in range(4):
            trainer.run_once(0.0)

    def _trace(self, name: str, *, starts: bool = False) -> Trace:
        return tracing(self._tracer, name, starts=starts) if self._tracer else untraced

    def _now(self) -> datetime:
        return NOON


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.clear()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Iterator[OpenTelemetryTracer]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield OpenTelemetryTracer(provider)
    provider.shutdown()


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def test_each_visit_is_one_trace_from_producer_over_server_to_trainer(
    data: DataSet, tracer: OpenTelemetryTracer, exporter: InMemorySpanExporter
) -> None:
    world = World(data, tracer)
    world.run(5)
    spans = exporter.get_finished_spans()
    by_name = {
        name: [span for span in spans if span.name == name] for name in ("visit", "decide", "learn")
    }
    outcomes = sum(len(world.broker.records(OUTCOMES, p)) for p in range(3))
    assert [len(found) for found in by_name.values()] == [5, 5, outcomes]
    made_by = {span.context.span_id: span for span in spans if span.context}
    for span in by_name["learn"]:
        decision = made_by[parent_of(span)]
        visit = made_by[parent_of(decision)]
        assert (decision.name, visit.name, visit.parent) == ("decide", "visit", None)
        assert span.context
        assert visit.context
        assert span.context.trace_id == visit.context.trace_id
    [first, *_] = by_name["decide"]
    assert first.attributes
    assert first.attributes["decision_id"] == f"d-{first.attributes['visit_id']!s}"


RANKED = "00-0af7651916cd43dd8448eb211c80319c-00000000000000a1-01"
CLICKED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000b2-01"


class Shop:
    """The HTTP API and the trainer behind it; `records` are the outcomes, as Kafka has them."""

    def __init__(self, data: DataSet, tracer: OpenTelemetryTracer | None) -> None:
        self.world = World(data, tracer)
        traces = HttpTraces()
        if tracer:
            traces = HttpTraces(tracing(tracer, "decide"), tracing(tracer, "click"), lambda: 0)
        self.window = FakeWindow(WindowRules(window_ms=30_000, lease_ms=15_000))
        self.traces, self._data = traces, data
        self._replicas: list[Bench] = []
        self.api = self.replica()

    def replica(self, step: Callable[[str], None] = lambda name: None) -> Bench:
        """One more server; the shop asks the first until it is told otherwise."""
        replica = Bench(
            self._data,
            window=self.window,
            broker=self.world.broker,
            step=step,
            traces=self.traces,
        )
        self._replicas.append(replica)
        return replica

    def close(self) -> None:
        for replica in self._replicas:
            replica.close()

    def rank(self, trace: str | None) -> int:
        """One slate, for the decision d1; gives its second product."""
        asked = {"context": CONTEXT, "decision_id": "d1"}
        answer = self.api.ask("POST", "/v1/rank", json=asked, headers=_headers(trace))
        product_id: int = answer.json()["slate"][1]["product_id"]
        return product_id

    def click(self, product_id: int, trace: str | None) -> httpx.Response:
        return self.api.ask(
            "POST",
            "/v1/decisions/d1/click",
            json={"product_id": product_id},
            headers=_headers(trace),
        )

    def records(self, topic: str) -> list[Record]:
        partitions = range(TOPICS[topic])
        return [record for p in partitions for record in self.world.broker.records(topic, p)]


@pytest.fixture
def make_shop(data: DataSet) -> Iterator[Callable[[OpenTelemetryTracer | None], Shop]]:
    made: list[Shop] = []

    def make(tracer: OpenTelemetryTracer | None) -> Shop:
        made.append(Shop(data, tracer))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def shop(
    make_shop: Callable[[OpenTelemetryTracer | None], Shop], tracer: OpenTelemetryTracer
) -> Shop:
    return make_shop(tracer)


def _headers(trace: str | None) -> dict[str, str]:
    return {"traceparent": trace} if trace else {}


def spans_of(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def context_of(span: ReadableSpan) -> SpanContext:
    context: SpanContext | None = span.context
    assert context
    return context


@pytest.mark.parametrize(("trace", "last"), [(CLICKED, "click"), (None, "decide")])
def test_the_trace_of_a_click_or_else_of_its_slate_goes_over_http_on_to_the_trainer(
    shop: Shop, exporter: InMemorySpanExporter, trace: str | None, last: str
) -> None:
    assert shop.click(shop.rank(RANKED), trace).status_code == 200
    shop.world.train()
    [decided], [came_of] = spans_of(exporter, "decide"), spans_of(exporter, last)
    assert parent_of(decided) == 0xA1
    assert came_of.parent is not None
    assert context_of(came_of).trace_id == came_of.parent.trace_id
    [record] = shop.records(DECISIONS)
    assert context_in(record.headers) == (
        context_of(decided).trace_id,
        context_of(decided).span_id,
        True,
    )
    learned = spans_of(exporter, "learn")
    assert len(learned) == len(shop.records(OUTCOMES)) == 2
    for span in learned:
        assert parent_of(span) == context_of(came_of).span_id
        assert context_of(span).trace_id == context_of(came_of).trace_id


def test_a_slate_without_a_click_is_learned_in_the_trace_of_its_request(
    shop: Shop, exporter: InMemorySpanExporter
) -> None:
    shop.rank(RANKED)
    shop.window.now_ms += 31_000
    shop.api.sweep()
    shop.world.train()
    [decided] = spans_of(exporter, "decide")
    learned = spans_of(exporter, "learn")
    assert len(learned) == 5
    assert {parent_of(span) for span in learned} == {context_of(decided).span_id}


def test_the_trace_of_a_click_outlives_the_replica_that_took_it(
    shop: Shop, exporter: InMemorySpanExporter
) -> None:
    product = shop.rank(RANKED)
    healthy, shop.api = shop.api, shop.replica(CrashPoints(0))
    with suppress(Crash):
        shop.click(product, CLICKED)
    assert shop.records(OUTCOMES) == []
    shop.window.now_ms += 16_000  # the lease runs out
    healthy.sweep()
    [clicked] = spans_of(exporter, "click")
    contexts = {context_in(record.headers) for record in shop.records(OUTCOMES)}
    assert [context.span_id for context in contexts if context] == [context_of(clicked).span_id]


@pytest.mark.parametrize("traced", [True, False])
def test_a_request_without_a_trace_or_a_server_without_tracing_leaves_no_header(
    make_shop: Callable[[OpenTelemetryTracer | None], Shop],
    tracer: OpenTelemetryTracer,
    exporter: InMemorySpanExporter,
    traced: bool,
) -> None:
    shop = make_shop(tracer if traced else None)
    header = None if traced else RANKED
    shop.click(shop.rank(header), header)
    assert [record.headers for record in shop.records(DECISIONS)] == [()]
    assert all(record.headers == () for record in shop.records(OUTCOMES))
    assert exporter.get_finished_spans() == ()
    found = shop.window.model.find("d1")
    assert found is not None
    assert b"trace" not in msgspec.json.encode(found.waiting)  # it costs the store nothing


def test_without_tracing_no_record_has_a_header(
    data: DataSet,
) -> None:
    world = World(data, None)
    world.run(5)
    for topic in (VISITS, DECISIONS, OUTCOMES):
        for partition in range(TOPICS[topic]):
            assert all(not r.headers for r in world.broker.records(topic, partition))


@pytest.mark.parametrize("began_ms", [-1, -5_000, 10**15])
def test_a_span_of_a_record_whose_time_is_none_or_yet_to_come_can_be_sent(
    tracer: OpenTelemetryTracer, exporter: InMemorySpanExporter, began_ms: int
) -> None:
    tracer.record("decide", None, began_ms, {})
    [span] = exporter.get_finished_spans()
    assert span.start_time == span.end_time
    assert encode_spans([span]).resource_spans


def test_traces_are_made_only_where_somebody_says_where_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert open_trace("server", "decide") is untraced


def test_traces_that_are_asked_for_without_the_extra_are_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "shared.otel", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    with pytest.raises(click.UsageError, match=r"livereco\[otel\]"):
        open_trace("server", "decide")
