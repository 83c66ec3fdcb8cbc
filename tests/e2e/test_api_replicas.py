"""Three replicas, clicks on any of them, SIGKILL in between: as many resolutions as decisions."""

import random
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import httpx

from infra.free_ports import free_ports
from server.api_types import RankRequest
from server.openapi import EXAMPLES
from tests.e2e.system import DEADLINE_S, System
from tests.waiting import ready

DECISIONS = 240
WINDOW_S = 3
CONTEXT = EXAMPLES[RankRequest]["context"]


class Shop:
    """A client that knows all replicas, and asks another when one does not answer."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = urls
        self._client = httpx.Client(timeout=30.0)
        self.close = self._client.close
        self.statuses: Counter[int] = Counter()

    def post(self, dice: random.Random, path: str, body: object) -> httpx.Response:
        """Any replica; the same again elsewhere after a fault or 503."""
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            try:
                answer: httpx.Response | None = self._client.post(
                    dice.choice(self._urls) + path, json=body
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code != 503:
                self.statuses[answer.status_code] += 1
                return answer
            time.sleep(0.02)
        raise AssertionError(f"nobody answers {path}")

    def visit(self, number: int) -> int | None:
        """One shopper: rank (and sometimes retry it), click (sometimes twice), or leave."""
        dice = random.Random(number)
        request = {"context": CONTEXT, "decision_id": f"visit-{number}", "user_id": number}
        first = self.post(dice, "/v1/rank", request)
        assert first.status_code == 200
        if dice.random() < 0.3:
            assert self.post(dice, "/v1/rank", request).json() == first.json()
        if dice.random() < 0.4:
            return None
        slate = [item["product_id"] for item in first.json()["slate"]]
        product = dice.choice(slate)
        path = f"/v1/decisions/visit-{number}/click"
        for _ in range(dice.choice([1, 1, 2, 3])):
            answer = self.post(dice, path, {"product_id": product})
            if answer.status_code == 410:  # replicas were away for longer than the window
                return None
            assert (answer.status_code, answer.json()["product_id"]) == (200, product)
        other = next(p for p in slate if p != product)
        assert self.post(dice, path, {"product_id": other}).status_code == 409
        return slate.index(product) + 1


def test_as_many_resolutions_as_decisions_though_replicas_are_killed(system: System) -> None:
    system.start("trainer", "train")
    names = ["server-0", "server-1", "server-2"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    for name in names:
        system.start(
            name,
            "serve",
            "--no-stream",
            http=f"127.0.0.1:{ports[name]}",
            reward_window=f"{WINDOW_S}s",
            rank_budget_ms=5_000,
        )
    urls = [f"http://127.0.0.1:{port}" for port in ports.values()]
    for url in urls:
        system.until(partial(ready, url), f"{url} ready")
    clicked: dict[int, int | None] = {}
    with closing(Shop(urls)) as shop, ThreadPoolExecutor(4) as shoppers:
        visits = {number: shoppers.submit(shop.visit, number) for number in range(DECISIONS)}
        for turn, number in enumerate(range(20, DECISIONS, 60)):
            visits[number].result(timeout=DEADLINE_S)
            victim = names[turn % 3]
            system.children[victim].kill()
            system.again(victim)
            system.until(partial(ready, urls[turn % 3]), f"{victim} ready again")
        clicked = {number: visit.result(timeout=DEADLINE_S) for number, visit in visits.items()}

    expected = {
        f"visit-{number}": dict.fromkeys(range(1, rank or 6), 0.0) | ({rank: 1.0} if rank else {})
        for number, rank in clicked.items()
    }
    # Decisions and outcomes are in other requests: a replica may have been killed in between.
    system.until(
        lambda: (
            len({d.decision_id for d in system.decisions()}) == DECISIONS
            and sum(map(len, published(system).values())) >= sum(map(len, expected.values()))
        ),
        "all resolved",
    )
    system.until(system.learned, "learned")
    outcomes = published(system)
    assert outcomes == expected
    report = system.compared()
    assert (report.violations, report.differing_bits, report.lag) == ([], 0, 0)
    assert report.applied == sum(len(ranks) for ranks in outcomes.values())
    assert shop.statuses[409] > 50


def published(system: System) -> dict[str, dict[int, float]]:
    """The rewards in the topic, by decision and rank."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for outcome in system.outcomes():
        seen = found[outcome.decision_id].setdefault(outcome.rank, outcome.reward)
        assert seen == outcome.reward, "published again, it must be the same"
    return found
