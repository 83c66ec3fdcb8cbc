import subprocess
from pathlib import Path

import pytest
import redis

from infra.embedded import EmbeddedBroker, EmbeddedStore
from shared.ports import StoreRefuses, StoreUnavailable
from shared.redis_connection import OPTIONS, BadAddress, RedisAddress
from shared.redis_store import RedisStore
from tests.listeners import HTTP, STRANGER, Certificate, listening, make_certificate


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "starts with redis://"),
        ("http://user:hush@127.0.0.1:1", "starts with redis://"),
        ("redis://user:hush", "port is no number"),
        ("redis://:hush@host:99999", "port is no number"),
        ("", "starts with redis://"),
        ("redis:hush", "starts with redis://"),
        ("redis://:hush@[::1", "host can't be read"),
        ("redis://[hush]:1", "host can't be read"),
        ("redis://:hush@a..b", "host can't be read"),
        ("redis://:hush\udcff@host", "host can't be read"),
        ("redis://:hush@:port", "port is no number"),
        ("unix://:hush@", "with the socket's path"),
        ("unix://hush/redis.sock", "with the socket's path"),
        ("redis://:hush@host/zero", "number of a database"),
        ("redis://:hush@host/0?colour=red", "an option that docs/connecting.md lacks"),
        ("redis://:hush@host/0?retry=hush", "an option that docs/connecting.md lacks"),
        ("redis://:hush@host?db=x", "can't have that value"),
        ("redis://:hush@host?protocol=9", "can't have that value"),
        ("redis://:hush@host?socket_timeout=abc", "can't have that value"),
        ("redis://:hush@host?socket_timeout=nan", "can't have that value"),
        ("redis://:hush@host?socket_connect_timeout=-1", "can't have that value"),
        ("rediss://:hush@host?ssl_cert_reqs=maybe", "can't have that value"),
        ("rediss://:hush@host?ssl_ciphers=none", "can't have that value"),
        ("rediss://:hush@host?ssl_min_version=5", "can't have that value"),
        ("rediss://:hush@host?ssl_ca_data=none", "can't have that value"),
        ("redis://:hush@host/0?ssl_ca_certs={certificate}", "option of TLS"),
        ("rediss://:hush@host?ssl_ca_certs=/nowhere/ca.pem", "there is no file /nowhere/ca.pem"),
        ("rediss://:hush@host?ssl_ca_certs={text}", "holds no certificate"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_the_password(
    tmp_path: Path, url: str, said: str
) -> None:
    (tmp_path / "text").write_text("no certificate")
    certificate = make_certificate(tmp_path).certificate
    with pytest.raises(BadAddress, match="no Redis address") as refused:
        RedisAddress(url.format(certificate=certificate, text=tmp_path / "text"), 1.0)
    assert said in str(refused.value)
    assert "hush" not in str(refused.value)


def test_every_option_of_an_address_is_documented() -> None:
    page = Path(__file__).parents[3] / "docs" / "connecting.md"
    text = page.read_text(encoding="utf-8")
    assert not [name for name in OPTIONS if f"`{name}`" not in text]


def test_what_an_address_leaves_out_is_said_as_it_is_used() -> None:
    assert RedisAddress("redis://", 1.0).text == "localhost:6379"
    assert RedisAddress("redis://host/1", 1.0).text == "host:6379"


@pytest.fixture
def two(tmp_path: Path) -> tuple[Certificate, Certificate]:
    """A server's certificate and one of a client."""
    for name in ("server", "client"):
        (tmp_path / name).mkdir()
    return make_certificate(tmp_path / "server"), make_certificate(tmp_path / "client")


def test_a_client_certificate_that_is_of_no_use_is_refused_before_anyone_is_asked(
    two: tuple[Certificate, Certificate], tmp_path: Path
) -> None:
    (certificate, other), mine = two[1], tmp_path / "locked.key"
    locked = ["-topk8", "-in", str(other), "-out", str(mine), "-passout", "pass:secret"]
    subprocess.run(["openssl", "pkcs8", *locked], check=True, capture_output=True)
    text = tmp_path / "text"
    text.write_text("neither")
    for options, said in [
        (f"ssl_certfile={certificate}", f"{certificate} holds no private key"),
        (f"ssl_certfile={certificate}&ssl_keyfile={text}", f"{text} holds no private key"),
        (f"ssl_certfile={certificate}&ssl_keyfile={mine}", f"{mine} holds no private key"),
        (f"ssl_certfile={certificate}&ssl_keyfile={two[0].key}", "is not that of the certificate"),
        (f"ssl_certfile={text}&ssl_keyfile={other}", f"{text} holds no certificate"),
        (f"ssl_certfile={certificate}&ssl_keyfile=/nowhere/key.pem", "no file /nowhere/key.pem"),
        (f"ssl_keyfile={other}", "ssl_keyfile needs ssl_certfile"),
        ("ssl_ca_path=/nowhere", "no folder /nowhere"),
    ]:
        with pytest.raises(BadAddress) as refused:
            RedisAddress(f"rediss://:hush@127.0.0.1:1?{options}", 1.0)
        assert said in str(refused.value)
    right = f"ssl_certfile={certificate}&ssl_keyfile={mine}&ssl_password=secret"
    RedisAddress(f"rediss://127.0.0.1:1?{right}", 1.0)


def test_an_address_is_shown_without_user_and_password() -> None:
    assert RedisAddress("rediss://user:hush@host:1234/7", 1.0).text == "host:1234"
    assert RedisAddress("unix:///run/redis.sock?db=1", 1.0).text == "/run/redis.sock"


@pytest.fixture
def locked() -> "EmbeddedStore":
    """A store with a password and a user who may do next to nothing."""
    store = EmbeddedStore()
    with redis.Redis.from_url(store.url) as client:
        client.execute_command("ACL SETUSER limited on >small ~reco:* +hmget")
        client.execute_command("CONFIG SET requirepass right")
    return store


def test_who_may_not_come_in_is_told_what_to_do(locked: EmbeddedStore) -> None:
    place = f"127.0.0.1:{locked.port}"
    for login, said in [
        ("", f"wants a password: give it in --redis as redis://USER:PASSWORD@{place}"),
        (":hush@", "refuses the user 'default' or its password"),
        ("nobody:hush@", "refuses the user 'nobody' or its password"),
        ("limited:small@", "no permissions to run the 'info' command; permit it"),
    ]:
        store = RedisStore(f"redis://{login}{place}", "m")
        with pytest.raises(StoreRefuses) as refused:
            store.check()
        assert said in str(refused.value)
        assert place in str(refused.value)
        assert "hush" not in str(refused.value)
        store.close()
    RedisStore(f"redis://:right@{place}", "m").check()
    with pytest.raises(StoreRefuses, match="no such database"):
        RedisStore(f"redis://:right@{place}/99", "m").check()
    locked.close()


def test_what_listens_there_and_is_no_store_is_named(tmp_path: Path) -> None:
    broker = EmbeddedBroker({})
    with pytest.raises(StoreRefuses, match="is a Kafka broker, not a Redis server: check --redis"):
        RedisStore(f"redis://{broker.address}", "m", timeout_s=0.3).check()
    broker.close()
    with (
        listening(HTTP) as port,
        pytest.raises(StoreRefuses, match="is an HTTP server, not a Redis server"),
    ):
        RedisStore(f"redis://127.0.0.1:{port}", "m").check()
    with listening(STRANGER) as port, pytest.raises(StoreUnavailable, match="does not serve"):
        RedisStore(f"redis://127.0.0.1:{port}", "m").check()


def test_tls_on_one_side_only_is_named(tmp_path: Path) -> None:
    with (
        listening(STRANGER, make_certificate(tmp_path)) as port,
        pytest.raises(StoreRefuses, match=f"127.0.0.1:{port} expects TLS: give --redis rediss://"),
    ):
        RedisStore(f"redis://127.0.0.1:{port}", "m").check()
    store = EmbeddedStore()
    with pytest.raises(StoreRefuses, match=r"speaks without TLS: give --redis redis:// for"):
        RedisStore(f"rediss://127.0.0.1:{store.port}", "m", timeout_s=0.3).check()
    store.close()


def test_a_certificate_that_nobody_vouches_for_is_named(tmp_path: Path) -> None:
    with (
        listening(STRANGER, make_certificate(tmp_path)) as port,
        pytest.raises(StoreRefuses, match=r"self-signed certificate\): give .*ssl_ca_certs=FILE"),
    ):
        RedisStore(f"rediss://127.0.0.1:{port}", "m").check()


def test_a_store_that_wants_a_clients_certificate_says_so(
    two: tuple[Certificate, Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = two
    with listening(STRANGER, server, wanted=server) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={server.certificate}"
        with pytest.raises(
            StoreRefuses, match=r"wants a client's certificate.*\?ssl_certfile=FILE"
        ):
            RedisStore(url, "m").check()
        mine = f"&ssl_certfile={client.certificate}&ssl_keyfile={client.key}"
        with pytest.raises(StoreRefuses, match=f"refuses the client's .* in {client.certificate}"):
            RedisStore(url + mine, "m").check()
        trusted = f"&ssl_certfile={server.certificate}&ssl_keyfile={server.key}"
        monkeypatch.setattr("shared.peer._TIMEOUT_S", 1.0)  # who trusts is silent until then
        with pytest.raises(StoreUnavailable, match="does not serve") as unavailable:
            RedisStore(url + trusted, "m").check()
    assert not isinstance(unavailable.value, StoreRefuses)


def test_a_server_that_hangs_up_without_a_reason_may_want_a_clients_certificate() -> None:
    gone = redis.ConnectionError("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] handshake failure.")
    said = str(RedisAddress("rediss://host", 1.0).unavailable(gone))
    assert said.endswith(
        "It may want a client's certificate, as in rediss://host:6379"
        "?ssl_certfile=FILE&ssl_keyfile=FILE"
    )
    assert "certificate" not in str(RedisAddress("redis://host", 1.0).unavailable(gone))
