import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from infra.embedded import EmbeddedStore
from shared.redis_scripts import RedisScripts

PING = [("PING",)]


@pytest.fixture
def store() -> Iterator[EmbeddedStore]:
    store = EmbeddedStore()
    yield store
    store.close()


def test_after_a_restart_of_the_store_no_connection_at_hand_is_taken_for_a_good_one(
    store: EmbeddedStore,
) -> None:
    async def scene() -> None:
        scripts = RedisScripts(store.url, 5.0)
        await asyncio.gather(*(scripts.execute(PING) for _ in range(5)))
        store.kill()
        store.start()
        assert await scripts.execute(PING) == [b"PONG"]
        await scripts.close()

    asyncio.run(scene())


def test_one_deadline_holds_for_all_that_is_sent_together(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        scripts = RedisScripts(store.url, 5.0)
        await scripts.execute(PING)
        loop = asyncio.get_running_loop()
        call_at, timers = loop.call_at, list[float]()

        def counted(when: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
            timers.append(when)
            return call_at(when, *arguments, **options)

        monkeypatch.setattr(loop, "call_at", counted)
        assert await scripts.execute(PING * 3) == [b"PONG"] * 3
        assert len(timers) == 1
        await scripts.close()

    asyncio.run(scene())
