"""Who may come in, and how: users, passwords and TLS on a real Redis and before a real Kafka."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.kafka import KafkaCluster
from shared.kafka_connection import settings_from
from shared.redis_store import RedisStore
from shared.snapshots import SUFFIX
from tests.contract.broker_suite import read
from tests.contract.store_suite import position
from tests.integration.command import Reco, Result
from tests.integration.containers import KafkaServer, RedisServer, make_anew
from tests.integration.gateway import gateway
from tests.listeners import Certificate, make_certificate

pytestmark = pytest.mark.timeout(900)  # containers start within the first test's time

LOGIN = ("shop", "hush-hush")
READER = "user reader on >hush ~reco:* &reco:* +@read +@connection +info +subscribe"
STRANGER = "user stranger on >hush ~other:* +@all"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def guarded(docker: None, certificate: Certificate) -> Iterator[RedisServer]:
    """A Redis with users, with and without TLS."""
    files = {
        "/tls/certificate.pem": certificate.certificate.read_bytes(),
        "/tls/key.pem": certificate.key.read_bytes(),
    }
    options = ["--tls-port", "6380", "--tls-auth-clients", "no"]
    for option, path in (("--tls-cert-file", "certificate"), ("--tls-key-file", "key")):
        options += [option, f"/tls/{path}.pem"]
    for user in (READER, STRANGER):
        options += [f"--{user.split()[0]}", *user.split()[1:]]
    server = RedisServer(*options, files=files)
    try:
        yield server.start()
    finally:
        server.stop()


def refused(result: Result, code: int, *said: str) -> None:
    """One sentence, without a password in it."""
    assert result.code == code, result
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    assert "hush" not in result.err + result.out
    for part in said:
        assert part in result.err


def plain(server: RedisServer, login: str = "") -> str:
    return server.url.replace("redis://", f"redis://{login}")


def encrypted(server: RedisServer, certificate: Certificate, login: str = "") -> str:
    ca = certificate.certificate
    return f"rediss://{login}127.0.0.1:{server.tls_port}/0?ssl_ca_certs={ca}"


def test_a_user_who_may_only_read_reads_and_does_no_more(
    reco: Reco, guarded: RedisServer, redis_server: RedisServer, name: str, tmp_path: Path
) -> None:
    address = plain(guarded, "reader:hush@")
    # Read, and found empty: a refusal would be exit code 2.
    refused(reco("inspect", "arm", "192", RECO_REDIS=address), 1, "holds no state of a model")
    store = RedisStore(redis_server.url, name)
    store.write(0, None, position(3), {1: b"row"})
    store.close()
    file = tmp_path / f"one{SUFFIX}"
    assert reco("snapshot", "save", "--out", file, "--model", name).code == 0
    result = reco("snapshot", "load", file, RECO_REDIS=address)
    refused(result, 2, "does not permit that", "reader", "ACL SETUSER")


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ("reader:wrong-hush@", "refuses the user 'reader' or its password"),
        ("nobody:hush@", "refuses the user 'nobody' or its password"),
        ("stranger:hush@", "does not permit that"),
    ],
)
def test_who_may_not_is_told_so_in_one_sentence(
    reco: Reco, guarded: RedisServer, login: str, said: str
) -> None:
    result = reco("inspect", "arm", "192", RECO_REDIS=plain(guarded, login))
    refused(result, 2, said, guarded.url.removeprefix("redis://").removesuffix("/0"))


def test_tls_with_the_ca_in_the_address(
    reco: Reco, guarded: RedisServer, certificate: Certificate
) -> None:
    result = reco(
        "inspect", "arm", "192", RECO_REDIS=encrypted(guarded, certificate, "reader:hush@")
    )
    refused(result, 1, "holds no state of a model", f"127.0.0.1:{guarded.tls_port}")


def test_tls_mismatches_are_one_sentence_each(
    reco: Reco, guarded: RedisServer, certificate: Certificate
) -> None:
    tls, line = f"127.0.0.1:{guarded.tls_port}", ("inspect", "arm", "192")
    refused(reco(*line, RECO_REDIS=f"redis://reader:hush@{tls}"), 2, f"{tls} expects TLS")
    refused(reco(*line, RECO_REDIS=f"rediss://reader:hush@{tls}"), 2, "is not trusted", tls)
    ca = f"?ssl_ca_certs={certificate.certificate}"
    wrong = plain(guarded, "reader:hush@").replace("redis://", "rediss://") + ca
    refused(reco(*line, RECO_REDIS=wrong), 2, "speaks without TLS")
    missing = f"rediss://reader:hush@{tls}?ssl_ca_certs=/nowhere/ca.pem"
    refused(reco(*line, RECO_REDIS=missing), 2, "no file /nowhere/ca.pem")


def test_wrong_ports_are_one_sentence_each(
    reco: Reco, kafka: KafkaServer, redis_server: RedisServer
) -> None:
    store = redis_server.url.removeprefix("redis://").removesuffix("/0")
    refused(reco("topics", "list", RECO_KAFKA=store), 2, f"{store} is a Redis server")
    mixed = f"redis://reader:hush@{kafka.address}"
    refused(reco("inspect", "arm", "1", RECO_REDIS=mixed), 2, f"{kafka.address} is a Kafka broker")


@pytest.mark.parametrize("secure", ["SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_kafka_through_tls_and_a_login(
    reco: Reco, kafka: KafkaServer, certificate: Certificate, name: str, secure: str
) -> None:
    tls = certificate if secure.endswith("SSL") else None
    login = LOGIN if secure.startswith("SASL") else None
    settings = {"KAFKA_SECURITY_PROTOCOL": secure}
    if tls:
        settings["KAFKA_SSL_CA_LOCATION"] = str(certificate.certificate)
    if login:
        settings["KAFKA_SASL_MECHANISM"] = "PLAIN"
        settings["KAFKA_SASL_USERNAME"], settings["KAFKA_SASL_PASSWORD"] = LOGIN
    with gateway(kafka.gateway, kafka.behind_gateway, tls, login) as address:
        cluster = KafkaCluster(address, settings_from(settings), patience_s=20.0)
        make_anew(cluster, [name], {name: 1})
        producer = cluster.producer()
        producer.send(name, b"k", b"through the gateway")
        producer.flush(10.0)
        producer.close()
        consumer = cluster.consumer(name)
        consumer.assign({0: 0})
        assert [record.value for record in read(consumer, 1)] == [b"through the gateway"]
        consumer.close()
        listed = reco("topics", "list", RECO_KAFKA=address, **settings)
        assert (listed.code, listed.err) == (0, "")
        assert name in listed.out
        if login:
            wrong = settings | {"KAFKA_SASL_PASSWORD": "not-hush"}
            result = reco("topics", "list", RECO_KAFKA=address, **wrong)
            refused(result, 2, "refuses the login", address, "KAFKA_SASL_PASSWORD")
        if tls:
            plain = settings | {"KAFKA_SECURITY_PROTOCOL": secure.replace("SSL", "PLAINTEXT")}
            result = reco("topics", "list", RECO_KAFKA=address, **plain)
            refused(result, 2, f"{address} expects TLS: set KAFKA_SECURITY_PROTOCOL={secure}")
            del settings["KAFKA_SSL_CA_LOCATION"]
            result = reco("topics", "list", RECO_KAFKA=address, **settings)
            refused(result, 2, "certificate verify failed", "KAFKA_SSL_CA_LOCATION")
    if tls:
        result = reco("topics", "list", RECO_KAFKA=kafka.address, **settings)
        refused(result, 2, f"the Kafka broker at {kafka.address} speaks without TLS")
