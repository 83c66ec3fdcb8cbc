"""Patience with who listens at an address."""

import pytest


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer on a slow machine takes more than the second that people are made to wait."""
    monkeypatch.setattr("shared.peer._TIMEOUT_S", 10.0)
