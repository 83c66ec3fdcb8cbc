"""What the live page is told: one object that the tail of the topics feeds and the page reads."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

import msgspec
import numpy as np

from server import explain, learning
from server.learning import LearningHistory, Point
from server.live_experiment import ExperimentSeen
from server.live_state import Freshness, Hidden, LiveState, OutcomeSeen, Rates, VisitSeen
from server.scorer import Model, Policy
from server.tendencies import Table, Tendencies
from server.view import Viewing
from shared.arm_statistics import Integers
from shared.catalogue import DataSet, Product, User
from shared.events import Context, Decision
from shared.live_catalogue import LiveCatalogue

LISTED: Final = 12
"""New visits that one message lists at most: more can't be read in a quarter of a second."""


class PartitionSeen(msgspec.Struct, frozen=True):
    """How far one partition of `outcomes` has been learned, and who learns it."""

    partition: int
    owner: str
    """The trainer that wrote last; empty if none has."""
    next_offset: int
    end_offset: int
    lag: int


class Replica(msgspec.Struct, frozen=True):
    """A process of the system."""

    kind: str
    name: str
    says: str
    """How it is, in a few words."""


class Options(msgspec.Struct, frozen=True):
    """What the panel can be set to."""

    genders: list[str]
    traffic_sources: list[str]
    ranges: dict[str, tuple[float, float]]


class Setting(msgspec.Struct, frozen=True):
    """What changes only when products come or go."""

    products: list[Product]
    options: Options
    policy: str
    parameters: dict[str, float]
    series: list[Rates]
    since_s: float
    """When this server began to watch: it counts from then. Seconds since 1970."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of the stream; the parts of the first one are all there."""

    at_s: float
    rates: Rates
    visits_per_s: float
    freshness: Freshness
    stale: bool
    """The store does not answer, so the estimates may be old."""
    visits: list[VisitSeen] = []
    """Those that were not listed before, oldest first."""
    tendencies: Tendencies | None = None
    partitions: list[PartitionSeen] | None = None
    replicas: list[Replica] | None = None
    setting: Setting | None = None
    experiment: ExperimentSeen | None = None


class LiveFeed:
    """Fed by one thread, read by another.

    Args:
        view: the model of this process.
        policy: what it ranks by.
        data: products, users and encoder.
        partitions: of the outcomes topic.
        hidden: what random and best slates would get, where a simulator knows it.
        utc_s: seconds since 1970, as outcomes are stamped.
        catalogue: the products as they are now, where they come and go.
    """

    def __init__(
        self,
        view: Viewing,
        policy: Policy,
        data: DataSet,
        partitions: int,
        hidden: Hidden | None,
        utc_s: Callable[[], float],
        catalogue: LiveCatalogue | None = None,
    ) -> None:
        self._view = view
        self._policy = policy
        self._encoder = data.encoder
        self._catalogue = catalogue or LiveCatalogue(data.products)
        self._utc_s = utc_s
        self._since_s = utc_s()
        self._lock = threading.Lock()
        self._history_lock = threading.Lock()  # taken before the view's, never after it
        self._state = LiveState(data.encoder, partitions, hidden)
        self._advances: deque[tuple[int, int, float]] = deque()
        shoppers = [_context(user) for user in data.users]
        with view.locked() as seen:
            self._arms = seen.model.arms
            self._learning = LearningHistory(seen.model, utc_s())
            self._advances.extend((p, at, utc_s()) for p, at in enumerate(seen.positions))
        self._products = self._named(self._arms)
        self._table = Table(list(self._products.values()), data.encoder, shoppers)
        self._tendencies: Tendencies | None = None
        self._stale = False
        self._partitions: list[PartitionSeen] = []
        self._replicas: list[Replica] = []
        self._samples = self._changed = 0
        self.sample()

    def advanced(self, partition: int, next_offset: int) -> None:
        """The view has moved on. From the view's own thread: only noted here."""
        self._advances.append((partition, next_offset, self._utc_s()))

    def take(self, decisions: Sequence[Decision], outcomes: Sequence[OutcomeSeen]) -> None:
        """Take in what the topics brought; called with nothing as well, for what waits."""
        with self._lock:
            self._note_advances()
            self._state.take(decisions, outcomes, self._utc_s())

    def skipped(self) -> None:
        """Part of the topics was left out."""
        with self._lock:
            self._state.forget_waiting()

    def thin(self, one_in: int) -> None:
        """From now on it is told of one decision in so many, a power of two (`server.sample`)."""
        with self._lock:
            self._state.thin(one_in, self._utc_s())

    def sample(self) -> None:
        """Once a second: how the model's estimates stand."""
        with self._history_lock:
            with self._view.locked() as seen:
                self._match(seen.model)
                estimates, n = self._table.estimates(seen.model), seen.model.n.copy()
                changed = self._learning.changed(seen.model)
                stale = seen.stale
            self._learning.record(changed, self._utc_s())
        with self._lock:
            self._tendencies = self._table.tendencies(estimates, n)
            self._state.mark()
            self._stale = stale
            self._samples += 1

    def status(self, partitions: list[PartitionSeen], replicas: list[Replica]) -> None:
        """Once a second: who does what."""
        with self._lock:
            self._partitions, self._replicas = partitions, replicas

    def first(self) -> bytes:
        """What a page that has just been opened needs."""
        with self._lock:
            return self._message(list(self._state.visits), True, self._setting())

    def next(self, after: int, sampled: int) -> tuple[bytes | None, int, int]:
        """What is new since visit number `after` and sample `sampled`, and where that leads.

        None where nothing is.
        """
        with self._lock:
            rates = self._state.rates()
            if rates.visits == after and self._samples == sampled:
                return None, after, sampled
            new = (visit for visit in reversed(self._state.visits) if visit.number > after)
            visits = list(islice(new, LISTED))[::-1]
            setting = self._setting() if self._changed > sampled else None
            text = self._message(visits, self._samples != sampled, setting)
            return text, rates.visits, self._samples

    def word(self) -> bytes:
        """That this server is there, while there is nothing else to tell."""
        with self._lock:
            return self._message([], False, None)

    def explain(self, context: Context, k: int) -> explain.Explanation:
        """What would be shown now in this context, and why.

        Raises:
            NotFinite: a number of the context is NaN or infinite.
        """
        x = explain.encoded(self._encoder, context)
        with self._view.locked() as seen:
            rows = {arm: row for row, arm in enumerate(seen.model.arms.tolist())}
            slate = explain.slate_of(self._policy, seen.model, rows, x, k)
            shown = np.array([item.product_id for item in slate.items])
        return explain.Explanation(
            explain.explained(slate, x, self._encoder, self._named(shown)),
            self._policy.name,
            self._policy.parameters,
            seen.positions,
            seen.stale,
        )

    def learning(self, product_id: int, context: Context) -> list[Point]:
        """How the estimate of a product in this context has moved, oldest first, now last.

        Raises:
            KeyError: there is no such product.
            NotFinite: a number of the context is NaN or infinite.
        """
        x = explain.encoded(self._encoder, context)
        with self._view.locked() as seen:
            [*at] = np.flatnonzero(seen.model.arms == product_id).tolist()
            if not at:
                raise KeyError(product_id)
            present = learning.present(seen.model, at[0], x, self._utc_s())
        with self._history_lock:
            past = self._learning.curve(product_id, x) if product_id in self._learning else []
        return [*past, present]

    def _named(self, arms: Integers) -> dict[int, Product]:
        """These products, by id; the view may be a moment ahead of what is known of a new one."""
        entries = [(arm, self._catalogue.entry(arm)) for arm in arms.tolist()]
        return {
            arm: entry.product if entry else Product(arm, f"product {arm}", "new", 0.0, False)
            for arm, entry in entries
        }

    def _match(self, model: Model) -> None:
        """Follow the products that are ranked; under the view's lock."""
        if model.arms is self._arms:
            return
        products = self._named(model.arms)
        self._table = self._table.of(list(products.values()))
        self._learning.follow(model)
        self._arms, self._products = model.arms, products
        self._changed = self._samples + 1

    def _setting(self) -> Setting:
        return Setting(
            list(self._products.values()),
            self._options(),
            self._policy.name,
            self._policy.parameters,
            self._state.series.values(),
            round(self._since_s, 3),
        )

    def _message(self, visits: list[VisitSeen], sampled: bool, setting: Setting | None) -> bytes:
        self._note_advances()
        now_s = self._utc_s()
        message = Message(
            at_s=round(now_s, 3),
            rates=self._state.rates(),
            visits_per_s=self._state.visits_per_s(now_s),
            freshness=self._state.freshness.freshness(),
            stale=self._stale,
            visits=visits,
            tendencies=self._tendencies if sampled else None,
            partitions=self._partitions if sampled else None,
            replicas=self._replicas if sampled else None,
            setting=setting,
            experiment=self._state.experiment.seen() if sampled else None,
        )
        return msgspec.json.encode(message)

    def _note_advances(self) -> None:
        while self._advances:
            self._state.freshness.advanced(*self._advances.popleft())

    def _options(self) -> Options:
        categories = self._encoder.categories
        return Options(categories["gender"], categories["traffic_source"], self._encoder.ranges)


def _context(user: User) -> Context:
    return Context(
        age=user.age,
        gender=user.gender,
        latitude=user.latitude,
        longitude=user.longitude,
        traffic_source=user.traffic_source,
        occurred_at=datetime(2026, 1, 5),  # noqa: DTZ001 (shop-local; the table sets it)
    )
