"""The users of the store: who may do what, as Redis' ACL file, and their passwords as files.

Redis gets only the hashes, each service only its own password. Rules are by key and by command:
the trainer alone may change a model's state, the server only read it.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TRAINER: Final = "trainer"
SERVER: Final = "server"
PRODUCER: Final = "producer"
ADMIN: Final = "admin"
USERS: Final = (TRAINER, SERVER, PRODUCER, ADMIN)

_NOTHING: Final = "resetchannels -@all"
_CONNECT: Final = "+ping +hello +info +select +client|setinfo +client|setname"
_STATE: Final = "reco:{*:p*}:state"
_CHANGES: Final = "reco:{*:p*}:changes"
# In parentheses: only with these keys. Else a right to one kind of key would be one to all kinds.
_PRESENT: Final = "(~reco:{*}:presence:* +set +del)"
_WINDOW: Final = (
    "(~reco:{*:w*}:* +evalsha +hget +hset +hdel +zadd +zrem +zcard +zscore +zrange +zrangebyscore)"
)
_RULES: Final[Mapping[str, str]] = {
    # The name of the channel is among the script's keys, so that a cluster finds its node.
    TRAINER: (
        f"{_NOTHING} {_CONNECT} ~{_STATE} ~{_STATE}:draft ~{_CHANGES} &{_CHANGES} "
        f"+hmget +hscan +hset +rename +publish +evalsha +script|load (~{_STATE}:draft +del) "
        f"{_PRESENT}"
    ),
    SERVER: (
        f"{_NOTHING} {_CONNECT} %R~{_STATE} &{_CHANGES} +hmget +hscan +subscribe +unsubscribe "
        f"+script|load +time +scan {_WINDOW} {_PRESENT} (%R~reco:{{*}}:presence:* +mget)"
    ),
    PRODUCER: f"{_NOTHING} {_CONNECT} {_PRESENT}",
    ADMIN: "~* &* +@all",
}
_ALWAYS: Final = (
    # Nobody can log in as it, but Redis loads its append-only file with its permissions: without
    # them it leaves out every transaction, so whatever a script with several writes has done.
    "user default off resetpass ~* &* +@all",
    # For the container's health check: it may ask whether anyone is there, and nothing else.
    f"user health on nopass {_NOTHING} +ping",
)
ACL_FILE: Final = Path("acl", "users.acl")


class BadPassword(ValueError):
    """Nobody could log in with it."""


def acl(passwords: Mapping[str, str]) -> str:
    """The ACL file for these passwords; it holds their hashes only."""
    lines = [
        f"user {user} on #{hashlib.sha256(passwords[user].encode()).hexdigest()} {_RULES[user]}"
        for user in USERS
    ]
    return "\n".join([*_ALWAYS, *lines]) + "\n"


def password_file(user: str) -> Path:
    """Where a user's password lies below the folder; each user has a folder of their own."""
    return Path(user, "password")


def write_users(folder: Path, chosen: Mapping[str, str]) -> list[str]:
    """Write ACL file and passwords; a password that is neither chosen nor there is drawn.

    Args:
        folder: where to; each part may be a volume of its own.
        chosen: passwords that someone wants, by user.

    Returns:
        What was done about each user, for people.

    Raises:
        OSError: the folder can't be read or written.
        BadPassword: one is none, of those that are chosen or there; nothing is written.
    """
    passwords, done = {}, []
    for user in USERS:
        path = folder / password_file(user)
        if chosen.get(user):
            passwords[user] = _checked(user, chosen[user])
            done.append(f"{user}: the password that was given")
        elif path.is_file():
            passwords[user] = _read(path)
            done.append(f"{user}: the password that is there")
        else:
            passwords[user] = secrets.token_urlsafe(32)
            done.append(f"{user}: a new password")
    for user, password in passwords.items():
        _replace(folder / password_file(user), password, 0o400)
    _replace(folder / ACL_FILE, acl(passwords), 0o444)
    return done


def _checked(user: str, password: str) -> str:
    if password != password.strip():  # whoever reads it from a file strips it
        raise BadPassword(f"the password of {user} begins or ends with a blank: leave it out")
    try:
        password.encode()
    except UnicodeEncodeError as error:
        raise BadPassword(f"the password of {user} is no UTF-8: choose another") from error
    return password


def _read(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadPassword(f"{path} holds no text: write the password into it") from error
    if not password:
        raise BadPassword(
            f"{path} is empty: write the password into it, or remove it and one is drawn"
        )
    return password


def _replace(path: Path, text: str, mode: int) -> None:
    """Write the file so that it is there whole or not at all, and never open to others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # of a run that was killed: in a container all have the same pid
    try:
        draft.touch(mode=0o600)
        draft.write_text(text, encoding="utf-8")
        draft.chmod(mode)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
