from pathlib import Path

from infra.embedded import EmbeddedBroker, EmbeddedStore
from shared.peer import Peer, who_listens
from tests.listeners import HTTP, STRANGER, listening, make_certificate


def test_a_broker_is_recognised() -> None:
    broker = EmbeddedBroker({})
    host, _, port = broker.address.rpartition(":")
    assert who_listens(host, int(port)) is Peer.KAFKA
    broker.close()


def test_a_store_is_recognised() -> None:
    store = EmbeddedStore()
    assert who_listens("127.0.0.1", store.port) is Peer.REDIS
    store.close()


def test_a_web_server_is_recognised() -> None:
    with listening(HTTP) as port:
        assert who_listens("127.0.0.1", port) is Peer.HTTP


def test_tls_is_recognised(tmp_path: Path) -> None:
    with listening(STRANGER, make_certificate(tmp_path)) as port:
        assert who_listens("127.0.0.1", port) is Peer.TLS


def test_who_says_nothing_is_a_stranger() -> None:
    with listening(STRANGER) as port:
        assert who_listens("127.0.0.1", port) is Peer.STRANGER


def test_nobody_is_nobody() -> None:
    assert who_listens("127.0.0.1", 1) is Peer.NOBODY
    assert who_listens("no-such-host.invalid", 6379) is Peer.NOBODY
