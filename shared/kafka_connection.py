"""How Kafka is reached: address and settings, and what to say when it fails."""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from shared.peer import Peer, who_listens
from shared.ports import BrokerRefuses, BrokerUnavailable

_log = logging.getLogger(__name__)

_NO_TOPIC_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"
"""How an older broker's missing topic id is spelt: 16 zero bytes."""

_TRY_S: Final = 1.0
_PREFIX: Final = "KAFKA_"
_OF_OTHERS: Final = re.compile(
    # Kafka's own tools,
    r"KAFKA_(HOME|(HEAP_|JVM_PERFORMANCE_|LOG4J_|GC_LOG_)?OPTS|JMX_\w+"
    # and what Kubernetes tells all pods of a Service called kafka.
    r"|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_FIXED: Final = (
    *("acks", "request.required.acks", "enable.idempotence", "transactional.id", "partitioner"),
    *("group.id", "group.protocol", "partition.assignment.strategy", "client.id"),
    *("auto.offset.reset", "isolation.level", "enable.partition.eof"),
    *("enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store"),
)
"""What counting each record once rests on, and `reco status` on the last one."""
_ADDRESSES: Final = ("bootstrap.servers", "metadata.broker.list")
_ADDRESS: Final = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[^:/\s,@]+))(?::(?P<port>\d{1,5}))?"
)
_NOISE: Final = re.compile(r"^\S+/\S+: |error:[0-9A-F]+:[^:]*::| \(after \d+ms in state [^)]*\)")
_QUOTED: Final = re.compile(r'["`]([^"`]*)["`]')
_DEFAULT_PORT: Final = 9092
_FILES: Final = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")


class BadSetting(ValueError):
    """librdkafka does not know a setting, or not this value."""


def settings_from(environment: Mapping[str, str]) -> dict[str, str]:
    """`KAFKA_SECURITY_PROTOCOL=SSL` → `security.protocol: SSL`, and so on.

    Variables of the same prefix that other software is known for are left out.

    Raises:
        BadSetting: there is one of what has to be as it is.
    """
    found = {
        name[len(_PREFIX) :].lower().replace("_", "."): value
        for name, value in environment.items()
        if name.startswith(_PREFIX) and not _OF_OTHERS.fullmatch(name)
    }
    if fixed := [_variable(name) for name in _FIXED if name in found]:
        raise BadSetting(f"LiveReco sets this itself, and counts on it; unset {', '.join(fixed)}")
    if addresses := [_variable(name) for name in _ADDRESSES if name in found]:
        raise BadSetting(f"give --kafka (RECO_KAFKA) instead of {addresses[0]}")
    return found


class KafkaConnection:
    """Bootstrap address and librdkafka settings, and the first contact.

    Args:
        address: bootstrap servers.
        settings: librdkafka settings.

    Raises:
        BadSetting: the address is malformed (the message does not repeat it: someone may have put
            a password there), or a file that a setting names is not there.
    """

    def __init__(self, address: str, settings: Mapping[str, str]) -> None:
        self.address = address
        self._servers = _parsed(address)
        self._protocol = settings.get("security.protocol", "PLAINTEXT").upper()
        self._last_error = ""
        self._refusal = ""
        for name in _FILES:
            file = settings.get(name)
            if file and file != "probe" and not Path(file).exists():
                raise BadSetting(f"there is no file {file} ({_variable(name)})")

    def note(self, error: KafkaError) -> None:
        """librdkafka's `error_cb`."""
        _log.debug("%s: %s", self.address, error)
        reason = _shortened(error.str())
        if error.code() == KafkaError._AUTHENTICATION:
            self._refusal = (
                f"the Kafka broker at {self.address} refuses the login ({reason}): check "
                "KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and "
                "KAFKA_SASL_PASSWORD"
            )
        elif error.code() == KafkaError._SSL:
            self._refusal = (
                f"TLS with the Kafka broker at {self.address} fails ({reason}): check "
                "KAFKA_SSL_CA_LOCATION, and that the address is a name in its certificate"
            )
        elif error.code() != KafkaError._ALL_BROKERS_DOWN or not self._last_error:
            self._last_error = reason

    def await_cluster(self, admin: Any, patience_s: float) -> str:
        """The cluster's id, once it answers.

        Args:
            admin: a client whose `error_cb` is `note`.
            patience_s: how long to keep trying.

        Raises:
            BrokerUnavailable: nothing answered in time.
            BrokerRefuses: something did, and waiting will not make it let us in.
        """
        deadline_s = time.monotonic() + patience_s
        while True:
            left_s = max(deadline_s - time.monotonic(), 0.1)
            try:
                found = admin.list_topics(timeout=min(left_s, _TRY_S))
                return str(found.cluster_id)
            except KafkaException as error:
                admin.poll(0)  # delivers the errors to `note`
                if why := self._refusal or self._misunderstanding():
                    raise BrokerRefuses(why) from error
                if time.monotonic() >= deadline_s:
                    raise BrokerUnavailable(
                        f"no Kafka broker answers at {self.address} (tried for {patience_s:g} s: "
                        f"{self._last_error or text_of(error)}); start one, or give its address "
                        "with --kafka"
                    ) from error

    def _misunderstanding(self) -> str:
        """Why waiting for an answer is useless: something else listens, say. Empty if it is not."""
        host, port = self._servers[0]
        found = who_listens(host, port)
        encrypted = self._protocol.endswith("SSL")
        if found in (Peer.REDIS, Peer.HTTP):
            return f"{host}:{port} is {found.value}, not a Kafka broker: check --kafka"
        if found is Peer.TLS and not encrypted:
            secure = "SASL_SSL" if self._protocol.startswith("SASL") else "SSL"
            return f"{host}:{port} expects TLS: set KAFKA_SECURITY_PROTOCOL={secure}"
        if found is Peer.KAFKA and encrypted:
            plain = "SASL_PLAINTEXT" if self._protocol.startswith("SASL") else "PLAINTEXT"
            return (
                f"the Kafka broker at {host}:{port} speaks without TLS: set "
                f"KAFKA_SECURITY_PROTOCOL={plain}"
            )
        if found is Peer.KAFKA:
            self._last_error = (
                "a broker is there but ends the connection; if it wants a login, set "
                "KAFKA_SECURITY_PROTOCOL and KAFKA_SASL_*"
            )
        return ""


def described_topic(admin: Any, topic: str, timeout_s: float) -> tuple[int, str] | None:
    """A topic's partition count and id, empty where the broker has none; None: no such topic.

    Raises:
        KafkaException: no answer.
    """
    asked = admin.describe_topics(TopicCollection([topic]), request_timeout=timeout_s)
    try:
        found = asked[topic].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise
    topic_id = str(found.topic_id)
    return len(found.partitions), "" if topic_id == _NO_TOPIC_ID else topic_id


def text_of(error: BaseException) -> str:
    """What a client's exception says, without its codes."""
    reason = error.args[0] if error.args else error
    return str(reason.str() if isinstance(reason, KafkaError) else reason)


def ends_within(call: Callable[[], object], limit_s: float, name: str) -> bool:
    """Run a call of librdkafka that has no timeout; False if it takes longer, and is left running.

    Raises:
        Exception: what it ended with, a `KafkaException` as a rule.
    """
    errors: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            errors.append(error)

    calling = threading.Thread(target=run, name=name, daemon=True)
    calling.start()
    calling.join(limit_s)
    if calling.is_alive():
        return False
    for error in errors:
        raise error
    return True


def made(client: Callable[[dict[str, Any]], Any], settings: dict[str, Any]) -> Any:
    """A client of librdkafka.

    Raises:
        BadSetting: it refuses a setting.
    """
    try:
        return client(settings)
    except KafkaException as error:
        reason = " ".join(text_of(error).split())  # some end with a line break
        why = _QUOTED.sub(
            lambda name: _variable(name[1]) if name[1] in settings else name[0], reason
        )
        raise BadSetting(f"librdkafka refuses a setting: {why}") from error


def _variable(setting: str) -> str:
    """Where a setting comes from."""
    return _PREFIX + setting.upper().replace(".", "_")


def _parsed(address: str) -> list[tuple[str, int]]:
    servers = []
    for server in address.split(","):
        match = _ADDRESS.fullmatch(server.strip())
        port = int(match["port"] or _DEFAULT_PORT) if match else 0
        if match is None or not 0 < port < 65_536 or not _can_be_looked_up(match["name"] or ""):
            raise BadSetting("no Kafka address: give HOST:PORT, or several with commas")
        servers.append((match["v6"] or match["name"], port))
    return servers


def _can_be_looked_up(name: str) -> bool:
    """Whether a resolver takes it: a name that it can't take would be no error of the network."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def _shortened(reason: str) -> str:
    """The reason without address, numbers and states that mean something to librdkafka only."""
    return _NOISE.sub("", reason).strip()
