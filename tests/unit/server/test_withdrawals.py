import asyncio
import logging

import pytest

from server.withdrawals import Withdrawals
from shared.reward_window import Attempt, WindowRules
from shared.testing import FakeWindow


def test_many_are_withdrawn_part_by_part() -> None:
    window = FakeWindow(WindowRules())

    async def withdraw() -> None:
        withdrawals = Withdrawals(window)
        withdrawals.add(Attempt(f"d{i}", "a") for i in range(2_500))
        withdrawals.add([Attempt("d0", "b")])
        await withdrawals.settle()

    asyncio.run(withdraw())
    assert window.model.load.kept == 2_500


def test_what_can_not_be_withdrawn_before_the_end_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.withdrawals.LAST_TRY_S", 0.0)
    window = FakeWindow(WindowRules())
    window.available = False

    async def withdraw() -> None:
        withdrawals = Withdrawals(window)
        withdrawals.add([Attempt("d1", "a")])
        await withdrawals.settle()

    with caplog.at_level(logging.WARNING):
        asyncio.run(withdraw())
    assert "1 slates that nobody saw could not be withdrawn" in caplog.text
