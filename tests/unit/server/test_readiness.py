from dataclasses import dataclass

from server.readiness import not_ready


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


def test_a_server_that_the_group_does_not_know_yet_is_not_ready() -> None:
    assert not_ready(Following(), joined=False) == ["the group has assigned no partitions yet"]
