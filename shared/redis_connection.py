"""How Redis is reached: the address, TLS and user in a URL, and what to say when it fails."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared.peer import Peer, tls_refusal, who_listens
from shared.ports import StoreRefuses, StoreUnavailable

_SCHEMES: Final = ("redis://", "rediss://", "unix://")
_DEFAULTS: Final = ("localhost", 6379)
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TIMEOUTS: Final = ("socket_timeout", "socket_connect_timeout")
_LONGEST_S: Final = 1e6
_PLAIN: Final = (
    "db username password client_name protocol max_connections socket_keepalive retry_on_timeout "
    "health_check_interval"
)
_OF_TLS: Final = (
    "ssl_ca_path ssl_ca_data ssl_password ssl_cert_reqs ssl_check_hostname ssl_min_version "
    "ssl_ciphers ssl_include_verify_flags ssl_exclude_verify_flags"
)
# Not all that redis-py takes from a URL: some is of use only as an object, and fails much later.
OPTIONS: Final = frozenset([*_TIMEOUTS, *_FILES, *_PLAIN.split(), *_OF_TLS.split()])
"""What may stand after the ? of an address; both clients, with asyncio and without, take it."""


_CERTIFICATE_ALERT: Final = re.compile("ALERT_(?:[A-Z]+_)*(?:CERTIFICATE|UNKNOWN_CA)")
_HUNG_UP: Final = ("EOF occurred in violation", "ALERT_HANDSHAKE_FAILURE", "reset by peer")
"""How a server of TLS 1.2 may take leave of a client without the certificate that it wants."""

_BAD_VALUE: Final = "no Redis address: one of its options can't have that value"


class BadAddress(ValueError):
    """Not the URL of a Redis server. The message never shows the URL: it may hold a password."""


class RedisAddress:
    """What a URL says, and a client for it.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, with `user:password@` and options of
            redis-py such as `?ssl_ca_certs=FILE`.
        timeout_s: how long a command may take.

    Raises:
        BadAddress: this is not the URL of a Redis server, or it has an option or file that does not
            exist or can't be used.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        _check(url)
        try:
            # Sending a command again is safe for the writes only because of the compare-and-set
            # and the writer's name in the state: the second answer is a conflict with oneself.
            self.client: Any = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(ExponentialBackoff(cap=0.2, base=0.01), 2),
            )
            self.client.connection_pool.make_connection()
        except (TypeError, ValueError, redis.RedisError) as error:
            raise BadAddress(_BAD_VALUE) from error
        options: Mapping[str, Any] = self.client.connection_pool.connection_kwargs
        if not all(0.0 < options[name] <= _LONGEST_S for name in _TIMEOUTS):
            raise BadAddress(_BAD_VALUE)
        host, port = _DEFAULTS if "path" not in options else ("", 0)
        self._host, self._port = str(options.get("host", host)), int(options.get("port", port))
        self._tls = urlsplit(url).scheme == "rediss"
        self._user = options.get("username") or "default"
        self._login = options.get("password") is not None
        self._certificate = options.get("ssl_certfile")
        self._key = options.get("ssl_keyfile"), options.get("ssl_password", "")
        self.text = str(options.get("path") or f"{self._host}:{self._port}")
        """Where it is, for people; without user and password."""

    def unavailable(self, error: Exception) -> StoreUnavailable:
        """What to raise for an error of the client."""
        name = f"the store at {self.text}"
        if isinstance(error, redis.exceptions.NoPermissionError):
            return StoreRefuses(
                f"{name} does not permit that: {error}; permit it (ACL SETUSER), or give --redis "
                "another user"
            )
        if isinstance(error, redis.AuthenticationError) and not self._login:
            return StoreRefuses(
                f"{name} wants a password: give it in --redis as redis://USER:PASSWORD@{self.text}"
            )
        if isinstance(error, redis.AuthenticationError):
            return StoreRefuses(
                f"{name} refuses the user {self._user!r} or its password: check both in --redis "
                "(special characters have to be percent-encoded)"
            )
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            reason = str(error).partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
            return StoreRefuses(
                f"the certificate of {name} is not trusted ({reason}): give --redis the CA that "
                f"signed it, as in rediss://{self.text}?ssl_ca_certs=FILE"
            )
        if "DB index" in str(error):
            return StoreRefuses(f"{name} has no such database: give --redis another number after /")
        if why := self._unwelcome(str(error)):
            return StoreRefuses(why)
        hint = ""
        if self._tls and not self._certificate and any(sign in str(error) for sign in _HUNG_UP):
            hint = f" It may want a client's certificate, as in {self._with_certificate}"
        return StoreUnavailable(f"{name} does not serve: {error}{hint}")

    def misunderstanding(self) -> str:
        """Why waiting for an answer is useless: something else listens, say. Empty if it is not."""
        if not self._port:
            return ""
        found = who_listens(self._host, self._port)
        if found is Peer.REDIS and self._tls:
            return (
                f"the store at {self.text} speaks without TLS: give --redis redis:// for rediss://"
            )
        if found is Peer.TLS and not self._tls:
            return f"{self.text} expects TLS: give --redis rediss:// in the place of redis://"
        if found in (Peer.KAFKA, Peer.HTTP):
            return f"{self.text} is {found.value}, not a Redis server: check --redis"
        if found is Peer.TLS:
            # The client may have been writing when it was refused, and then does not know why.
            refusal = tls_refusal(self._host, self._port, self._certificate, *self._key)
            return self._unwelcome(refusal)
        return ""

    def _unwelcome(self, said: str) -> str:
        """What to do about the certificate that the client has or lacks; empty if it is not that.

        Args:
            said: an error of OpenSSL, or its name.
        """
        if not _CERTIFICATE_ALERT.search(said):
            return ""
        if self._certificate:
            return (
                f"the store at {self.text} refuses the client's certificate in "
                f"{self._certificate}: give --redis one that is signed by a CA which the store "
                "trusts, and not expired"
            )
        return (
            f"the store at {self.text} wants a client's certificate: give --redis one and its key, "
            f"as in {self._with_certificate}"
        )

    @property
    def _with_certificate(self) -> str:
        return f"rediss://{self.text}?ssl_certfile=FILE&ssl_keyfile=FILE"


def _check(url: str) -> None:
    if not url.startswith(_SCHEMES):
        raise BadAddress(
            "no Redis address: it starts with redis://, rediss:// or unix://, as in "
            "redis://host:6379"
        )
    try:
        url.encode()
        parts = urlsplit(url)
        unquote(parts.hostname or "").encode("idna")
    except ValueError as error:
        raise BadAddress(
            "no Redis address: its host can't be read (an IPv6 address goes in brackets)"
        ) from error
    try:
        _ = parts.port
    except ValueError as error:
        raise BadAddress("no Redis address: the port is no number up to 65535") from error
    if parts.scheme == "unix" and (parts.hostname or not parts.path):
        raise BadAddress("no Redis address: unix:///run/redis.sock is one, with the socket's path")
    if parts.scheme != "unix" and not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
        raise BadAddress("no Redis address: after the / comes the number of a database")
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if options.keys() - OPTIONS:
        # It is not named: what follows a ? may be the rest of a password.
        raise BadAddress("no Redis address: it has an option that docs/connecting.md lacks")
    if parts.scheme == "rediss":
        _check_tls(options)
    elif any(name.startswith("ssl_") for name in options):
        raise BadAddress("no Redis address: it has an option of TLS, which is for rediss://")


def _check_tls(options: Mapping[str, str]) -> None:
    """Try all that is of no use whoever answers: waiting would not help."""
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise BadAddress(f"no Redis address: there is no file {options[name]} ({name})")
    if not Path(options.get("ssl_ca_path", "/")).is_dir():
        raise BadAddress(f"no Redis address: there is no folder {options['ssl_ca_path']}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in ("ssl_ca_certs", "ssl_certfile"):
        if name in options:
            _check_certificate(context, options[name])
    _check_key(context, options)
    try:
        if "ssl_ca_data" in options:
            context.load_verify_locations(cadata=options["ssl_ca_data"])
        if "ssl_min_version" in options:
            context.minimum_version = ssl.TLSVersion(int(options["ssl_min_version"]))
        context.set_ciphers(options.get("ssl_ciphers", "DEFAULT"))
    except (ValueError, ssl.SSLError) as error:
        raise BadAddress(_BAD_VALUE) from error


def _check_certificate(context: ssl.SSLContext, file: str) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise BadAddress(f"no Redis address: {file} holds no certificate") from error
    except OSError as error:
        raise BadAddress(f"no Redis address: can't read {file}: {error.strerror}") from error


def _check_key(context: ssl.SSLContext, options: Mapping[str, str]) -> None:
    certificate = options.get("ssl_certfile")
    file = options.get("ssl_keyfile", certificate)
    if certificate is None:
        if file is not None:
            raise BadAddress("no Redis address: ssl_keyfile needs ssl_certfile beside it")
        return
    try:
        # With a password in any case: without one, OpenSSL asks for it on the terminal.
        context.load_cert_chain(certificate, file, options.get("ssl_password", ""))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadAddress(
                f"no Redis address: the key in {file} is not that of the certificate in "
                f"{certificate}"
            ) from error
        raise BadAddress(
            f"no Redis address: {file} holds no private key that can be read, or ssl_password is "
            "not its password"
        ) from error
    except OSError as error:
        raise BadAddress(f"no Redis address: can't read {file}: {error.strerror}") from error
