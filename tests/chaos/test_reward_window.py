"""Replicas, clicks, retries, ends and deaths in any order: one resolution a decision, none lost."""

from collections import defaultdict
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shared.events import decode_outcome, encode
from shared.reward_window import (
    Answer,
    Click,
    Opening,
    Refused,
    Resolution,
    Waiting,
    learned,
)
from shared.window_model import WindowModel
from tests.contract.window_suite import RULES, waiting

PRODUCTS = (8, 42, 61)
_REPLICAS = st.integers(0, 2)
_ATTEMPTS = st.sampled_from("abcd")


class Replicas(RuleBasedStateMachine):
    """What a replica holds in memory, it loses when it dies; the window and the log remain."""

    def __init__(self) -> None:
        super().__init__()
        self.window = WindowModel(RULES._replace(keep_ms=10**11))
        self.now_ms = 0
        self.log: dict[str, list[bytes]] = defaultdict(list)
        """Outcomes in Kafka by decision_id, repeats included."""
        self.shown: dict[str, Waiting] = {}
        """Decisions that some client was answered with."""
        self.answered: set[tuple[str, str]] = set()
        """The attempts that were."""
        self.arrived: set[tuple[str, str]] = set()
        """The attempts that the window let wait, or answered with what waits."""
        self.given_up: set[tuple[str, str]] = set()
        """The attempts that were withdrawn."""
        self.confirmed: dict[str, int] = {}
        """decision_id → rank of the click that was answered 2xx."""
        self.memory: dict[int, list[Resolution]] = defaultdict(list)
        """Leased to a replica, not published yet."""
        self.published: dict[int, list[Resolution]] = defaultdict(list)
        """In Kafka, which the window has not been told."""

    @initialize(most=st.sampled_from([2, 300]))
    def remember(self, most: int) -> None:
        """Of few attempts, or of all that there are."""
        self.most = most
        self.window = WindowModel(RULES._replace(keep_ms=10**11, most_attempts=most))

    @rule(number=st.integers(0, 4), attempt=_ATTEMPTS, reply_lost=st.booleans())
    def rank(self, number: int, attempt: str, reply_lost: bool) -> None:
        """A request or its retry; a replica without an answer withdraws, before or after it
        arrives, or never."""
        opening = Opening(waiting(number), attempt)
        answer = self.window.open(opening, self.now_ms)
        given_up = opening.name in self.given_up
        assert answer is not Refused.WITHDRAWN or given_up or self.most == 2
        if isinstance(answer, Waiting):
            self.arrived.add(opening.name)
        if isinstance(answer, Waiting) and not reply_lost and not given_up:
            self.answered.add(opening.name)
            self.shown.setdefault(f"d-{number}", answer)
            assert answer == self.shown[f"d-{number}"]

    @rule(number=st.integers(0, 4), attempt=_ATTEMPTS)
    def give_up(self, number: int, attempt: str) -> None:
        """An attempt whose answer nobody saw: before or after it arrives."""
        name = Opening(waiting(number), attempt).name
        if name not in self.answered:
            self.given_up.add(name)
            self.window.withdraw(name, self.now_ms)

    @rule(replica=_REPLICAS, number=st.integers(0, 4), product=st.sampled_from(PRODUCTS))
    def click(self, replica: int, number: int, product: int) -> None:
        """On any replica; it is to be published before it is answered."""
        clicked = self.window.click(Click(f"d-{number}", product), self.now_ms)
        if clicked.answer in (Answer.COUNTED, Answer.AGAIN) and clicked.resolution:
            if clicked.resolution.acknowledged:
                self._confirm(clicked.resolution)
            else:
                self.memory[replica].append(clicked.resolution)

    @rule(replica=_REPLICAS, limit=st.integers(1, 3))
    def sweep(self, replica: int, limit: int) -> None:
        """Ends of windows, and what others left behind."""
        self.memory[replica] += self.window.take(limit, self.now_ms)

    @rule(replica=_REPLICAS)
    def publish(self, replica: int) -> None:
        """Kafka acknowledges; clicks among them are answered 2xx."""
        for resolution in self.memory.pop(replica, []):
            self._append(resolution)
            self.published[replica].append(resolution)
            if resolution.clicked_rank:
                self._confirm(resolution)

    @rule(replica=_REPLICAS)
    def publish_without_hearing_of_it(self, replica: int) -> None:
        """Stored, but the acknowledgement is lost: nobody is answered."""
        for resolution in self.memory.pop(replica, []):
            self._append(resolution)

    @rule(replica=_REPLICAS)
    def acknowledge(self, replica: int) -> None:
        """The window is told."""
        for resolution in self.published.pop(replica, []):
            self.window.acknowledge(resolution.waiting.decision.decision_id, self.now_ms)

    @rule(replica=_REPLICAS)
    def die(self, replica: int) -> None:
        """SIGKILL."""
        self.memory.pop(replica, None)
        self.published.pop(replica, None)

    @rule(milliseconds=st.sampled_from([50_000, 300_000, 600_000, 1_000_000]))
    def wait(self, milliseconds: int) -> None:
        """Leases run out and windows end."""
        self.now_ms += milliseconds

    @invariant()
    def at_most_one_resolution_a_decision(self) -> None:
        """Whatever is in the log twice is the same to the byte."""
        for decision_id, outcomes in self.log.items():
            distinct = set(outcomes)
            resolutions = [set(self._encoded(decision_id, rank)) for rank in (None, 1, 2, 3)]
            rewards_and_ranks = {_essence(outcome) for outcome in distinct}
            assert rewards_and_ranks in resolutions
            assert len(rewards_and_ranks) == len(distinct)

    @invariant()
    def nothing_waits_that_nobody_can_have_seen(self) -> None:
        """It would end without a click, and teach that nobody wanted it."""
        for decision_id in {name[0] for name in self.arrived}:
            found = self.window.find(decision_id)
            if found and found.due_ms is not None:
                assert {name for name in self.arrived if name[0] == decision_id} - self.given_up

    def teardown(self) -> None:
        """Let everything come to its end: nothing shown is left unresolved."""
        self.memory.clear()
        self.published.clear()
        for _ in range(20):
            self.now_ms += RULES.lease_ms + 1
            for resolution in self.window.take(10, self.now_ms):
                self._append(resolution)
                self.window.acknowledge(resolution.waiting.decision.decision_id, self.now_ms)
        self.at_most_one_resolution_a_decision()
        assert self.window.load[:2] == (0, 0)
        assert self.shown.keys() <= self.log.keys()
        for decision_id, rank in self.confirmed.items():
            essences = {_essence(outcome) for outcome in self.log[decision_id]}
            assert essences == set(self._encoded(decision_id, rank))

    def _append(self, resolution: Resolution) -> None:
        outcomes = learned(resolution)
        self.log[resolution.waiting.decision.decision_id] += [encode(each) for each in outcomes]

    def _confirm(self, resolution: Resolution) -> None:
        decision_id, rank = resolution.waiting.decision.decision_id, resolution.clicked_rank
        assert rank is not None
        assert self.confirmed.setdefault(decision_id, rank) == rank

    @staticmethod
    def _encoded(decision_id: str, rank: int | None) -> list[tuple[int, float]]:
        what = waiting(int(decision_id[2:]))
        return [(each.rank, each.reward) for each in learned(Resolution(what, rank, 0))]


def _essence(outcome: bytes) -> tuple[int, float]:
    decoded = decode_outcome(outcome)
    return decoded.rank, decoded.reward


Replicas.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestReplicas: Any = Replicas.TestCase
