import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from infra import embedded as module
from infra.embedded import EmbeddedError, EmbeddedStore, embedded, store_version
from infra.free_ports import free_port
from shared.kafka import KafkaCluster
from shared.redis_store import RedisStore
from shared.settings import PARTITIONS


def test_broker_and_store_are_there_for_the_block_and_gone_after_it() -> None:
    with embedded() as addresses:
        assert KafkaCluster(addresses.kafka, patience_s=10.0).topics() == PARTITIONS
        with redis.Redis.from_url(addresses.redis) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        with closing(RedisStore(addresses.redis, "m")) as store:
            assert store.ping() == store_version()
    with redis.Redis.from_url(addresses.redis) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_store_that_appends_keeps_its_data_over_a_restart_at_the_same_address() -> None:
    store = EmbeddedStore(append_only=True)
    url = store.url
    with redis.Redis.from_url(url) as client:
        client.set("a", "1")
        store.stop()
        store.start()
        assert client.get("a") == b"1"
        store.kill()
        store.empty()
        store.start()
        assert client.get("a") is None
    folder = store.folder
    store.close()
    assert store.url == url
    assert not folder.exists()


def test_a_store_that_sleeps_answers_nobody_and_can_be_closed_nonetheless() -> None:
    store = EmbeddedStore()
    hasty = redis.Redis.from_url(store.url, socket_timeout=0.2, retry=None)
    with hasty, redis.Redis.from_url(store.url) as client:
        assert client.ping()
        with store.asleep(), pytest.raises(redis.TimeoutError):
            hasty.ping()
        assert client.ping()
        with store.asleep():
            store.close()
    assert not store.folder.exists()


def test_a_store_whose_port_was_taken_before_it_listened_takes_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, taken, free_port()])
        monkeypatch.setattr(module, "free_port", lambda: next(ports))
        with closing(EmbeddedStore()) as store, redis.Redis.from_url(store.url) as client:
            assert client.ping()


def test_a_store_is_not_mistaken_for_another_at_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(EmbeddedStore()) as other, redis.Redis.from_url(other.url) as client:
        ports = iter([other.port, free_port()])
        monkeypatch.setattr(module, "free_port", lambda: next(ports))
        with closing(EmbeddedStore()) as store, redis.Redis.from_url(store.url) as own:
            own.set("a", "1")
            assert client.get("a") is None


def test_a_stopped_store_whose_port_is_taken_says_so_and_starts_once_it_is_free() -> None:
    with closing(EmbeddedStore()) as store:
        store.stop()
        with (
            socket.create_server(("127.0.0.1", store.port)),
            pytest.raises(EmbeddedError, match=f"port {store.port} .another process has"),
        ):
            store.start()
        store.start()
        with redis.Redis.from_url(store.url) as client:
            assert client.ping()


def test_a_store_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_store_binary", lambda: shutil.which("false") or "false")
    with pytest.raises(EmbeddedError, match="does not start on port"):
        EmbeddedStore()


def test_a_store_that_never_answers_is_ended_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    folders = tmp_path / "folders"
    folders.mkdir()
    children = list[subprocess.Popen[bytes]]()

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            children.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    monkeypatch.setattr(module, "_store_binary", lambda: str(silent))
    monkeypatch.setattr(module, "_START_TIMEOUT_S", 0.0)
    with pytest.raises(EmbeddedError, match="does not start on port"):
        EmbeddedStore()
    assert [child.returncode for child in children] == [-signal.SIGKILL]
    assert list(folders.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "taken"), [("8.0.2", True), ("7.2.0", True), ("7.0.15", False), ("", False)]
)
def test_the_server_on_the_path_is_preferred_if_it_knows_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, taken: bool
) -> None:
    own = tmp_path / "redis-server"
    own.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 bits=64'\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (module._store_binary() == str(own)) == taken
    own.unlink()
    assert "valkey" in module._store_binary()
