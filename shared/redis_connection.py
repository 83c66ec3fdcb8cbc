"""How Redis is reached: the address, TLS and user in a URL, and what to say when it fails."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared.peer import Peer, who_listens
from shared.ports import StoreRefuses, StoreUnavailable

_SCHEMES: Final = ("redis", "rediss", "unix")
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class BadAddress(ValueError):
    """Not the URL of a Redis server. The message never shows the URL: it may hold a password."""


class RedisAddress:
    """What a URL says, and a client for it.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, with `user:password@` and options of
            redis-py such as `?ssl_ca_certs=FILE`.
        timeout_s: how long a command may take.

    Raises:
        BadAddress: the URL is none, or names a file or option that does not exist.
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
        except (TypeError, ValueError) as error:
            raise BadAddress("no Redis address: it has an option that redis-py lacks") from error
        options: Mapping[str, Any] = self.client.connection_pool.connection_kwargs
        self._host, self._port = str(options.get("host", "")), int(options.get("port", 0))
        self._tls = urlsplit(url).scheme == "rediss"
        self._user = options.get("username") or "default"
        self._login = options.get("password") is not None
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
        return StoreUnavailable(f"{name} does not serve: {error}")

    def misunderstanding(self) -> str:
        """Why waiting for an answer is in vain: something else listens there. Empty if not so."""
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
        return ""


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise BadAddress("no Redis address: it starts with redis://, rediss:// or unix://")
    try:
        _ = parts.port
    except ValueError as error:
        raise BadAddress("no Redis address: the port is no number up to 65535") from error
    if parts.scheme != "unix" and not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
        raise BadAddress("no Redis address: after the / comes the number of a database")
    options = parse_qs(parts.query)
    for name in _FILES:
        for file in options.get(name, []):
            if not Path(file).is_file():
                raise BadAddress(f"no Redis address: there is no file {file} ({name})")
    for file in options.get("ssl_ca_certs", []):
        try:
            ssl.create_default_context(cafile=file)
        except ssl.SSLError as error:
            raise BadAddress(f"no Redis address: {file} holds no certificate") from error
