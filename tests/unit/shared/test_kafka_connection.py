from pathlib import Path

import pytest

from infra.embedded import EmbeddedBroker, EmbeddedStore
from shared.kafka import KafkaCluster
from shared.kafka_connection import BadSetting, settings_from
from shared.ports import BrokerRefuses, BrokerUnavailable
from tests.listeners import HTTP, STRANGER, Certificate, listening, make_certificate

PATIENCE_S = 5.0
LOGIN = {"sasl.mechanism": "PLAIN", "sasl.username": "user", "sasl.password": "hush"}


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


def test_variables_become_settings() -> None:
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "KAFKA_SSL_CA_LOCATION": "/ca.pem",
        "RECO_KAFKA": "broker:9092",
        "PATH": "/bin",
    }
    assert settings_from(environment) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "ssl.ca.location": "/ca.pem",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("KAFKA_HOME", "KAFKA_OPTS", "KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS"),
        *("KAFKA_LOG4J_OPTS", "KAFKA_GC_LOG_OPTS", "KAFKA_JMX_OPTS", "KAFKA_JMX_PORT"),
        *("KAFKA_SERVICE_HOST", "KAFKA_SERVICE_PORT", "KAFKA_SERVICE_PORT_CLIENT", "KAFKA_PORT"),
        *("KAFKA_PORT_9092_TCP", "KAFKA_PORT_9092_TCP_ADDR", "KAFKA_PORT_9092_TCP_PROTO"),
    ],
)
def test_what_kafkas_tools_and_kubernetes_set_is_no_setting(name: str) -> None:
    assert settings_from({name: "tcp://10.0.0.1:9092", "KAFKA_LINGER_MS": "5"}) == {
        "linger.ms": "5"
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KAFKA_SECURITY_PROTOCL", "SSL", "No such configuration property: KAFKA_SECURITY_PROTOCL"),
        ("KAFKA_HOMES", "/opt", "KAFKA_HOMES"),
        ("KAFKA_SERVICE", "1", "KAFKA_SERVICE"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", '"TLS" for configuration property KAFKA_SECURITY_PROT'),
        ("KAFKA_SESSION_TIMEOUT_MS", "-5", r"KAFKA_SESSION_TIMEOUT_MS value -5 .*\.3600000$"),
    ],
)
def test_a_variable_that_is_no_setting_is_named_as_it_was_written(
    name: str, value: str, said: str
) -> None:
    with pytest.raises(BadSetting, match=said) as refused:
        KafkaCluster("127.0.0.1:1", settings_from({name: value}), patience_s=0.0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        *("", "a:1,", "host:port", "host:0", "host:99999", "kafka://host:1", "u:hush@host:1"),
        *("a..b", "x" * 64, "\udcff:1", "host:" + "9" * 5_000),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(BadSetting, match="no Kafka address: give HOST:PORT") as refused:
        KafkaCluster(address)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (["KAFKA_ACKS"], "unset KAFKA_ACKS$"),
        (["KAFKA_GROUP_ID", "KAFKA_CLIENT_ID"], "KAFKA_GROUP_ID, KAFKA_CLIENT_ID$"),
        (["KAFKA_BOOTSTRAP_SERVERS"], "RECO_KAFKA"),
    ],
)
def test_what_counting_once_rests_on_can_not_be_changed(variables: list[str], said: str) -> None:
    with pytest.raises(BadSetting, match=said):
        settings_from(dict.fromkeys(variables, "1"))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:1,localhost:1", "[::1]:1"])
def test_an_address_where_nobody_is_gets_the_whole_patience(address: str) -> None:
    with pytest.raises(BrokerUnavailable, match=r"tried for 0\.1 s: .*; start one"):
        KafkaCluster(address, patience_s=0.1)


def test_a_host_that_there_is_not_is_named() -> None:
    with pytest.raises(BrokerUnavailable, match=r"Failed to resolve 'no-such-host\.invalid:9092'"):
        KafkaCluster("no-such-host.invalid", patience_s=4.0)


def test_a_file_that_there_is_not_is_named_with_its_variable(certificate: Certificate) -> None:
    settings = {"security.protocol": "SSL", "ssl.ca.location": "/nowhere/ca.pem"}
    with pytest.raises(BadSetting, match=r"no file /nowhere/ca\.pem \(KAFKA_SSL_CA_LOCATION\)"):
        KafkaCluster("127.0.0.1:1", settings)
    settings = {"security.protocol": "SSL", "ssl.ca.location": str(certificate.key)}
    with pytest.raises(BadSetting, match="no certificate"):
        KafkaCluster("127.0.0.1:1", settings)


def test_what_listens_there_and_is_no_broker_is_named() -> None:
    store = EmbeddedStore()
    with pytest.raises(BrokerRefuses, match="is a Redis server, not a Kafka broker: check --kafka"):
        KafkaCluster(f"127.0.0.1:{store.port}", patience_s=PATIENCE_S)
    store.close()
    with listening(HTTP) as port, pytest.raises(BrokerRefuses, match="is an HTTP server"):
        KafkaCluster(f"127.0.0.1:{port}", patience_s=PATIENCE_S)
    with listening(STRANGER) as port, pytest.raises(BrokerUnavailable, match=r"tried for 0\.1 s"):
        KafkaCluster(f"127.0.0.1:{port}", patience_s=0.1)


@pytest.mark.parametrize(("mine", "wanted"), [("PLAINTEXT", "SSL"), ("SASL_PLAINTEXT", "SASL_SSL")])
def test_where_tls_is_expected_the_setting_is_named(
    certificate: Certificate, mine: str, wanted: str
) -> None:
    with (
        listening(STRANGER, certificate) as port,
        pytest.raises(BrokerRefuses, match=f"TLS: set KAFKA_SECURITY_PROTOCOL={wanted}$"),
    ):
        KafkaCluster(f"127.0.0.1:{port}", {"security.protocol": mine, **LOGIN}, PATIENCE_S)


@pytest.mark.parametrize(("mine", "wanted"), [("SSL", "PLAINTEXT"), ("SASL_SSL", "SASL_PLAINTEXT")])
def test_where_tls_is_not_spoken_the_setting_is_named(mine: str, wanted: str) -> None:
    broker = EmbeddedBroker({})
    with pytest.raises(BrokerRefuses, match=f"without TLS: set KAFKA_SECURITY_PROTOCOL={wanted}$"):
        KafkaCluster(broker.address, {"security.protocol": mine, **LOGIN}, PATIENCE_S)
    broker.close()


def test_a_certificate_that_nobody_vouches_for_is_named(certificate: Certificate) -> None:
    with (
        listening(STRANGER, certificate) as port,
        pytest.raises(BrokerRefuses, match=r"certificate verify failed.*KAFKA_SSL_CA_LOCATION"),
    ):
        KafkaCluster(f"127.0.0.1:{port}", {"security.protocol": "SSL"}, PATIENCE_S)


def test_a_login_that_is_not_accepted_is_named_without_the_password() -> None:
    broker = EmbeddedBroker({})
    with pytest.raises(BrokerRefuses, match=r"the login \(.*KAFKA_SASL_PASSWORD") as refused:
        KafkaCluster(broker.address, {"security.protocol": "SASL_PLAINTEXT", **LOGIN}, PATIENCE_S)
    assert "hush" not in str(refused.value)
    broker.close()
