import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from infra.embedded import EmbeddedStore
from shared.ports import StoreUnavailable
from shared.redis_scripts import RedisScripts, ScriptCall

PING = [("PING",)]


class Wire:
    """Stands between client and store, and may lose what goes over the connections that there are,
    which then look as if they were open."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self.url = ""
        self._port = port
        self._lost: set[object] = set()
        self._connections: dict[object, asyncio.Task[Any] | None] = {}

    def lose(self) -> None:
        """All connections of now."""
        self._lost |= self._connections.keys()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Listens for so long."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        yield
        server.close()
        await asyncio.gather(*(task for task in self._connections.values() if task))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections[writer] = asyncio.current_task()
        from_store, to_store = await asyncio.open_connection("127.0.0.1", self._port)
        replies = asyncio.ensure_future(self._pass(from_store, writer, writer))
        await self._pass(reader, to_store, writer)
        to_store.close()
        await replies
        writer.close()
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(to_store.wait_closed(), writer.wait_closed())

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: object
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                await asyncio.sleep(self.delay_s)
                if connection not in self._lost:
                    writer.write(data)


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


@pytest.mark.parametrize("budget_s", [20.0, 0.1], ids=["into its deadline", "until cancelled"])
def test_after_a_call_that_waited_in_vain_no_connection_at_hand_is_taken_for_a_good_one(
    store: EmbeddedStore, budget_s: float
) -> None:
    async def scene() -> None:
        wire = Wire(store.port)
        async with wire.held():
            scripts = RedisScripts(wire.url, 2.0)
            await asyncio.gather(*(scripts.execute(PING) for _ in range(5)))
            wire.lose()
            with pytest.raises((StoreUnavailable, TimeoutError)):
                async with asyncio.timeout(budget_s):
                    await scripts.execute(PING)
            assert await scripts.execute(PING) == [b"PONG"]
            await scripts.close()

    asyncio.run(scene())


def test_the_deadline_holds_for_the_loading_of_a_script_too(store: EmbeddedStore) -> None:
    async def scene() -> None:
        wire = Wire(store.port)
        async with wire.held():
            scripts = RedisScripts(wire.url, 2.0)
            await scripts.execute(PING)
            wire.delay_s = 0.4  # each way
            with pytest.raises(StoreUnavailable, match="within"):
                await scripts.run("return 1", [ScriptCall([], [])])
            await scripts.close()

    asyncio.run(scene())


def test_what_is_closed_sends_nothing_any_more_and_keeps_no_connection(
    store: EmbeddedStore,
) -> None:
    async def scene() -> None:
        scripts, other = (RedisScripts(store.url, 5.0) for _ in range(2))
        await scripts.execute(PING)
        waits = asyncio.ensure_future(scripts.execute([("BLPOP", "nothing", 0)]))
        await asyncio.sleep(0.1)
        await scripts.close()
        for call in (waits, scripts.execute(PING)):
            with pytest.raises(StoreUnavailable, match="closed"):
                await call
        [clients] = await other.execute([("CLIENT", "LIST")])
        assert clients.count(b" addr=") == 1
        await other.close()

    asyncio.run(scene())
