from dataclasses import dataclass

import pytest

from server.readiness import api_not_ready, not_ready, without_addresses


@dataclass
class Api:
    """Publishes what came of slates, and lets requests in."""

    error: str = ""
    draining: bool = False


@dataclass
class Following:
    ready: bool = True
    age_s: float = 0.1
    error: str = ""


def test_a_whole_and_current_model_is_ready() -> None:
    assert not_ready(Following()) == []


def test_without_a_whole_model_it_is_not_ready_and_says_what_is_missing() -> None:
    [reason] = not_ready(Following(ready=False, error="the store is away"))
    assert "the store is away" in reason


def test_a_store_that_is_away_is_borne_for_a_while() -> None:
    view = Following(age_s=29.0, error="the store is away")
    assert not_ready(view, stale_limit_s=30.0) == []
    view.age_s = 31.0
    [reason] = not_ready(view, stale_limit_s=30.0)
    assert "31 s old" in reason
    assert "the store is away" in reason


def test_an_api_is_not_ready_while_clicks_reach_nobody_or_it_leaves() -> None:
    api = Api()
    assert api_not_ready(api, api) == []
    api.error, api.draining = "the broker is away", True
    assert api_not_ready(api, api) == ["the broker is away", "the server is shutting down"]


def test_a_server_that_the_group_does_not_know_yet_is_not_ready() -> None:
    assert not_ready(Following(), missing=["no partitions"]) == ["no partitions"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "the store at 127.0.0.1:53909 does not serve: Timeout reading from 127.0.0.1:53909",
            "the store does not serve: Timeout reading",
        ),
        (
            "the store at redis:6379 does not serve: Error 111 connecting to [::1]:6379. Refused.",
            "the store does not serve: Error 111 connecting. Refused.",
        ),
        (
            "the Kafka broker at a.shop:9092,b.shop:9092: ssl://a.shop:9092/bootstrap: no answer",
            "the Kafka broker: no answer",
        ),
        (
            "the model is 31 s old, more than 30 s: read",
            "the model is 31 s old, more than 30 s: read",
        ),
    ],
)
def test_outside_a_reason_is_told_without_addresses(reason: str, told: str) -> None:
    assert without_addresses(reason) == told
