"""One trace from visit to learned outcome, through the real SDK and the fakes' records."""

import sys
from collections.abc import Iterator
from datetime import datetime

import click
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from producer.service import VisitProducer
from producer.simulate import Shoppers
from reco.observed_trainer import wrote
from reco.shoppers import feedback_rule, reaction
from reco.wiring import open_trace
from server.delivery import AtLeastOnce
from server.freshness import FreshnessProbe
from server.model_view import ModelView
from server.scorer import Policy
from server.stream import StreamServer
from shared.catalogue import DataSet
from shared.events import DEAD_LETTERS, DECISIONS, OUTCOMES, VISITS
from shared.metrics import TrainerMetrics
from shared.otel import OpenTelemetryTracer
from shared.testing import FakeBroker, FakeClock, FakeStore
from shared.tracing import Trace, tracing, untraced
from tests.scenario import NOON
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
            Policy("linucb", alpha=0.5),
            self._data.encoder,
            reaction(self._data, 5, 5),
            feedback_rule("cascade", 5),
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


def test_without_tracing_no_record_has_a_header(
    data: DataSet,
) -> None:
    world = World(data, None)
    world.run(5)
    for topic in (VISITS, DECISIONS, OUTCOMES):
        for partition in range(TOPICS[topic]):
            assert all(not r.headers for r in world.broker.records(topic, partition))


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
