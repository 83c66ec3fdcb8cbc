"""The catalogue of metrics: every name, unit and meaning, once.

The loops keep plain counts and know nothing of Prometheus. What they count anyway is `Sampled`:
read when somebody scrapes, so there is no second set of books. Only what a sum can't tell,
distributions, is observed as it happens. Names are `reco_*`, units base units (seconds, bytes).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final, TypeAlias

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

Labels: TypeAlias = tuple[str, ...]
Reading: TypeAlias = Callable[[], float | Mapping[Labels, float]]
"""What a metric stands at: a number, or one for each combination of its labels' values."""

_FRESHNESS_S: Final = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03),
    *(0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)
_RANK_S: Final = (
    *(0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001),
    *(0.002, 0.005, 0.01, 0.02, 0.05, 0.1),
)
_REQUEST_S: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_ROWS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
_BYTES: Final = (1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 4e6)


class Sampled(Collector):
    """A counter or gauge that is read when it is scraped.

    Several parts of a process may count the same thing: their readings are added up.
    """

    def __init__(
        self,
        family: type[CounterMetricFamily] | type[GaugeMetricFamily],
        registry: CollectorRegistry,
        name: str,
        help_: str,
        labels: Sequence[str] = (),
    ) -> None:
        self._family = family
        self._name = name
        self._help = help_
        self._labels = tuple(labels)
        self._readings: list[Reading] = []
        registry.register(self)

    def read(self, reading: Reading) -> None:
        """Where to read it from now on, beside what was given before."""
        self._readings.append(reading)

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """For the registry, which refuses a name that is taken."""
        yield self._empty()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """For the scrape; nothing at all while nobody reads it."""
        values: defaultdict[Labels, float] = defaultdict(float)
        for reading in self._readings:
            read = reading()
            for labels, value in (read if isinstance(read, Mapping) else {(): read}).items():
                values[labels] += value
        family = self._empty()
        for labels, value in values.items():
            family.add_metric(labels, value)
        yield family

    def _empty(self) -> CounterMetricFamily | GaugeMetricFamily:
        return self._family(self._name, self._help, labels=self._labels)


class _Catalogue:
    """Declares metrics in a registry: one that is given, or one of its own."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.registry = registry or CollectorRegistry()

    def _counter(self, name: str, help_: str, labels: Sequence[str] = ()) -> Sampled:
        return Sampled(CounterMetricFamily, self.registry, name, help_, labels)

    def _gauge(self, name: str, help_: str, labels: Sequence[str] = ()) -> Sampled:
        return Sampled(GaugeMetricFamily, self.registry, name, help_, labels)

    def _histogram(
        self, name: str, help_: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(name, help_, labels, registry=self.registry, buckets=buckets)


class ServiceMetrics(_Catalogue):
    """What every service has.

    Args:
        service: server, trainer or producer.
        registry: where to declare; a new one by default.
    """

    def __init__(self, service: str, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self.build_info = self._gauge(
            "reco_build_info", "1; the labels say what runs.", ["service", "version"]
        )
        self.ready = self._gauge("reco_ready", "1 while the service is ready, else 0.")
        self.dead_letters = self._counter(
            "reco_dead_letters", "Records put aside because they can't be used.", ["topic"]
        )
        self.lag = self._gauge(
            "reco_lag_records",
            "Records of a partition of ours that are in the log but not dealt with.",
            ["topic", "partition"],
        )
        self.build_info.read(lambda: {(service, _version()): 1.0})
        ProcessCollector(registry=self.registry)

    def _expected_clicks(self) -> Sampled:
        return self._counter(
            "reco_expected_clicks",
            "Expected clicks by the hidden click model, on the slates shown, on random ones and on "
            "the best possible ones; only where shoppers are simulated: by the server those of the "
            "topic, by the producer those over HTTP.",
            ["slates"],
        )


class ServerMetrics(ServiceMetrics):
    """The server's, in stream mode and over HTTP."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__("server", registry)
        self.visits = self._counter(
            "reco_visits",
            "Visits decided, from the topic or over HTTP, however often one is sent.",
        )
        self.decisions = self._counter(
            "reco_decisions", "Slates decided, by how they were asked for.", ["via"]
        )
        self.skipped = self._counter(
            "reco_visits_skipped", "Visits that came again although they are decided, and skipped."
        )
        self.outcomes = self._counter("reco_outcomes", "Outcomes published, clicked or not.")
        self.clicks = self._counter("reco_clicks", "Slates that got a click.")
        self.unknown_categories = self._counter(
            "reco_unknown_categories", "Categories in a context that the encoder does not know."
        )
        self.clipped = self._counter(
            "reco_clipped_numbers", "Numbers in a context outside the encoder's range, clipped."
        )
        self.expected_clicks = self._expected_clicks()
        self.freshness = self._histogram(
            "reco_freshness_seconds",
            "From a shopper's reaction until this server's own view has learned it.",
            _FRESHNESS_S,
        )
        self.rank_latency = self._histogram(
            "reco_rank_seconds", "Scoring and ranking one batch of visits.", _RANK_S
        )
        self._declare_view()
        self._declare_reward_window()

    def _declare_view(self) -> None:
        self.view_age = self._gauge(
            "reco_view_age_seconds", "Since the store last confirmed that the view is current."
        )
        self.view_stale = self._gauge("reco_view_stale", "1 while the view may be old, else 0.")
        self.view_offset = self._gauge(
            "reco_view_offset", "Next outcomes offset in the view.", ["partition"]
        )
        self.view_bytes = self._gauge("reco_view_bytes", "Memory of the model's arrays.")
        self.gaps = self._counter(
            "reco_view_gaps", "Announcements that did not continue the view: partition read again."
        )
        self.solution_age = self._gauge(
            "reco_solution_age_seconds",
            "Since the oldest outcome read that is not solved yet; 0 if none.",
        )
        self.policy_info = self._gauge(
            "reco_policy_info", "1; the labels say what ranks.", ["model", "policy"]
        )
        self.delivery_info = self._gauge(
            "reco_delivery_info", "1; the label says how visits are delivered.", ["mode"]
        )

    def _declare_reward_window(self) -> None:
        self.resolutions = self._counter(
            "reco_reward_window_resolutions",
            "Decisions resolved, by what resolved them: a click, or the window's end.",
            ["kind"],
        )
        self.clicks_refused = self._counter(
            "reco_clicks_refused", "Clicks that resolved nothing, by why.", ["reason"]
        )
        self.decisions_waiting = self._gauge(
            "reco_decisions_waiting", "Decisions whose reward window is open."
        )
        self.outbox = self._gauge(
            "reco_outbox_resolutions", "Resolutions that Kafka has not acknowledged yet."
        )
        self.put_aside = self._counter(
            "reco_decisions_put_aside", "Resolved decisions that could not be read in the store."
        )


class TrainerMetrics(ServiceMetrics):
    """The trainer's."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__("trainer", registry)
        self.applied = self._counter("reco_outcomes_applied", "Outcomes folded into the model.")
        self.duplicates = self._counter("reco_duplicates", "Outcomes met again, and skipped.")
        self.writes = self._counter("reco_writes", "Writes to the store.")
        self.conflicts = self._counter(
            "reco_conflicts", "Writes refused because another writer had moved the state."
        )
        self.reloads = self._counter(
            "reco_reloads", "Times that a partition's memory was thrown away and read again."
        )
        self.offset = self._gauge("reco_offset", "Next outcomes offset to apply.", ["partition"])
        self.waiting = self._gauge(
            "reco_waiting_partitions", "Partitions that are ours but not served."
        )
        self.write_rows = self._histogram("reco_write_rows", "Arms in one write.", _ROWS)
        self.write_bytes = self._histogram("reco_write_bytes", "Rows of one write.", _BYTES)


class ProducerMetrics(ServiceMetrics):
    """The producer's."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__("producer", registry)
        self.sent = self._counter(
            "reco_visits_sent", "Visits handed to the broker's client, or begun over HTTP."
        )
        self.confirmed = self._counter(
            "reco_visits_confirmed",
            "Visits the broker acknowledged, or that are over, with or without a click, over HTTP.",
        )
        self.expected_clicks = self._expected_clicks()


class HttpMetrics(_Catalogue):
    """Those of the HTTP API; they share the server's registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self.requests = Counter(
            "reco_http_requests",
            "Requests answered; the route is the pattern, never the path.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.latency = self._histogram(
            "reco_http_request_seconds", "From request to answer.", _REQUEST_S, ["route", "method"]
        )
        self.in_flight = Gauge(
            "reco_http_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.rejected = self._counter(
            "reco_http_rejected",
            "Turned away at the door, by why: requests for overload, too large, not authorised, "
            "headers too large, slow, not HTTP; connections (there are too many), and unread "
            "(the client of one does not take its answers).",
            ["reason"],
        )


def exposition(registry: CollectorRegistry) -> bytes:
    """The registry in Prometheus' text form (`CONTENT_TYPE`)."""
    return generate_latest(registry)


def _version() -> str:
    try:
        return version("livereco")
    except PackageNotFoundError:  # run from the source tree
        return "unknown"
