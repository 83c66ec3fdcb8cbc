"""Who may do what in the store: tried on a real server, by the adapters that will do it."""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.embedded import EmbeddedStore
from infra.redis_users import (
    ACL_FILE,
    ADMIN,
    PRODUCER,
    SERVER,
    TRAINER,
    USERS,
    BadPassword,
    acl,
    write_users,
)
from shared.ports import ModelConfig, Position, Source, State, StoreUnavailable
from shared.redis_store import RedisStore

MODEL = "linucb"
LIMITED = (TRAINER, SERVER, PRODUCER, "health")
PASSWORDS = {user: f"{user}'s secret" for user in USERS}
POSITION = Position(7, Source("c", "outcomes", 12), 0, "w", ModelConfig(15, "e"))
STATE = f"reco:{{{MODEL}:p0}}:state"

Login = Callable[[str], str]


@pytest.fixture(scope="module")
def login() -> Iterator[Login]:
    """The URL of a user, on a server with these users and no other."""
    server = EmbeddedStore()
    with redis.Redis.from_url(server.url) as client:
        for line in acl(PASSWORDS).splitlines():
            rules = re.findall(r"\([^)]*\)|\S+", line)
            client.execute_command("ACL", "SETUSER", *rules[1:])
    yield lambda user: server.url.replace("redis://", f"redis://{user}:{user}'s secret@")
    server.close()


@pytest.fixture(autouse=True)
def empty(login: Login) -> None:
    with redis.Redis.from_url(login(ADMIN)) as client:
        client.flushall()


def refused(login: Login, user: str, *command: str | bytes | float) -> bool:
    """Whether the server does not let a user do something; anything else that fails is an error."""
    with redis.Redis.from_url(login(user)) as client:
        try:
            client.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            return True
        return False


def test_a_trainer_writes_and_a_server_follows(login: Login) -> None:
    trainer, server = (RedisStore(login(user), MODEL) for user in (TRAINER, SERVER))
    feed = server.changes([0])
    assert trainer.write(0, None, POSITION, {192: b"row"}) is None
    assert [change.rows for change in feed.drain(5.0)] == [{192: b"row"}]
    assert list(server.scan(0)) == [{192: b"row"}]
    assert server.positions([0]) == [POSITION]
    assert server.ping() == trainer.ping()
    feed.close()


def test_a_trainer_puts_a_snapshot_in_the_place_of_a_state(login: Login) -> None:
    trainer = RedisStore(login(TRAINER), MODEL)
    trainer.replace(0, State(POSITION, {1: b"old"}))
    trainer.replace(0, State(POSITION, {2: b"new"}))
    assert list(trainer.scan(0)) == [{2: b"new"}]


def test_a_server_writes_no_state(login: Login) -> None:
    server = RedisStore(login(SERVER), MODEL)
    with pytest.raises(StoreUnavailable, match="does not permit"):
        server.write(0, None, POSITION, {192: b"row"})
    with pytest.raises(StoreUnavailable, match="does not permit"):
        server.replace(0, State(POSITION, {}))


@pytest.mark.parametrize(
    ("user", "command"),
    [
        (SERVER, ["SET", STATE, "x"]),
        (SERVER, ["HSET", STATE, "_next", "9"]),
        (SERVER, ["DEL", STATE]),
        (SERVER, ["EVAL", f"return redis.call('HSET', '{STATE}', 'a', 'b')", 0]),
        (SERVER, ["PUBLISH", f"reco:{{{MODEL}:p0}}:changes", "forged"]),
        (SERVER, ["SET", "reco:{linucb:w0}:due", "x"]),
        (SERVER, ["MGET", STATE]),
        (PRODUCER, ["HMGET", STATE, "_next"]),
        (PRODUCER, ["SET", "elsewhere", "x"]),
        (TRAINER, ["SET", STATE, "x"]),
        (TRAINER, ["DEL", STATE]),
        (TRAINER, ["EXPIRE", STATE, 1]),
        (TRAINER, ["SET", "elsewhere", "x"]),
        (TRAINER, ["HGETALL", "reco:{linucb:w0}:decisions"]),
        (TRAINER, ["PUBLISH", "elsewhere", "x"]),
        (TRAINER, ["EVAL", "return 1", 0]),
        *((user, ["FLUSHALL"]) for user in LIMITED),
        *((user, ["CONFIG", "GET", "dir"]) for user in LIMITED),
        *((user, ["KEYS", "*"]) for user in LIMITED),
        *((user, ["ACL", "LIST"]) for user in LIMITED),
        *((user, ["SHUTDOWN"]) for user in LIMITED),
        ("health", ["INFO"]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value))[:30],
)
def test_what_a_user_does_not_need_is_refused(login: Login, user: str, command: list[Any]) -> None:
    assert refused(login, user, *command)


def test_who_has_no_password_gets_nothing(login: Login) -> None:
    address = login(TRAINER).partition("@")[2]
    for url in (f"redis://{address}", f"redis://trainer:guessed@{address}"):
        with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
            client.get("a")


def test_redis_may_load_what_it_has_written_and_nobody_else_is_the_default_user(
    login: Login,
) -> None:
    with redis.Redis.from_url(login(ADMIN)) as client:
        for command in (["HSET", STATE, "_gen", "1"], ["ZREM", "reco:{linucb:w0}:outbox", "a"]):
            assert client.execute_command("ACL", "DRYRUN", "default", *command) == b"OK"
        default = client.acl_getuser("default")
    assert "off" in default["flags"]
    assert "nopass" not in default["flags"]
    assert default["passwords"] == []


def test_the_health_check_needs_no_password(login: Login) -> None:
    assert not refused(login, "health", "PING")


def test_every_service_says_that_it_is_there_and_a_server_hears_of_all(login: Login) -> None:
    name = f"reco:{{{MODEL}}}:presence:a"
    for user in (TRAINER, SERVER, PRODUCER):
        assert not refused(login, user, "SET", name, "{}", "EX", 5)
        assert not refused(login, user, "DEL", name)
    assert not refused(login, SERVER, "SCAN", 0, "MATCH", "reco:{linucb}:presence:*")
    assert not refused(login, SERVER, "MGET", name)


@pytest.mark.parametrize(
    "option", ["client_name=reco", "protocol=2", "protocol=3", "db=1", "health_check_interval=1"]
)
@pytest.mark.parametrize("user", [TRAINER, SERVER, PRODUCER])
def test_every_service_may_use_what_an_address_may_say_of_the_connection(
    login: Login, user: str, option: str
) -> None:
    assert RedisStore(f"{login(user)}?{option}", MODEL).ping()


def test_a_server_holds_the_reward_window(login: Login) -> None:
    key = "reco:{linucb:w3}:due"
    with redis.Redis.from_url(login(SERVER)) as client:
        script = client.register_script(
            "redis.call('TIME'); return redis.call('ZADD', KEYS[1], 1, ARGV[1])"
        )
        assert script(keys=[key], args=["d-1"]) == 1
        assert client.zcard(key) == 1


def test_passwords_are_drawn_once_and_kept(tmp_path: Path) -> None:
    write_users(tmp_path, {})
    first = {user: (tmp_path / user / "password").read_text() for user in USERS}
    assert len(set(first.values())) == len(USERS)
    assert min(map(len, first.values())) >= 40
    write_users(tmp_path, {})
    assert first == {user: (tmp_path / user / "password").read_text() for user in USERS}


def test_what_can_not_be_written_leaves_no_draft_with_a_password(tmp_path: Path) -> None:
    (tmp_path / TRAINER / "password").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_users(tmp_path, {})
    assert list((tmp_path / TRAINER).iterdir()) == [tmp_path / TRAINER / "password"]


def test_a_password_that_someone_chose_takes_the_place_of_the_drawn_one(tmp_path: Path) -> None:
    write_users(tmp_path, {})
    assert "admin: the password that was given" in write_users(tmp_path, {ADMIN: "chosen"})
    assert (tmp_path / ADMIN / "password").read_text() == "chosen"
    assert hashlib.sha256(b"chosen").hexdigest() in (tmp_path / ACL_FILE).read_text()


def test_redis_gets_hashes_and_passwords_are_for_their_owner_alone(tmp_path: Path) -> None:
    write_users(tmp_path, PASSWORDS)
    assert not any(password in (tmp_path / ACL_FILE).read_text() for password in PASSWORDS.values())
    modes = {user: stat.S_IMODE((tmp_path / user / "password").stat().st_mode) for user in USERS}
    assert set(modes.values()) == {0o400}
    assert stat.S_IMODE((tmp_path / ACL_FILE).stat().st_mode) == 0o444


@pytest.mark.parametrize("password", [" ", " lead", "trail\n"])
def test_a_password_that_a_file_would_not_give_back_is_refused(
    tmp_path: Path, password: str
) -> None:
    with pytest.raises(BadPassword, match="password of server begins or ends with a blank"):
        write_users(tmp_path, {SERVER: password})
    assert list(tmp_path.iterdir()) == []


def test_a_password_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPassword, match="password of server is no UTF-8"):
        write_users(tmp_path, {SERVER: os.fsdecode(b"caf\xe9")})  # as the environment hands it
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty: write"), (b" \n", "is empty: write"), (b"caf\xe9", "holds no text")],
)
def test_a_password_file_that_holds_none_is_refused_before_anything_is_written(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / ADMIN / "password"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(BadPassword, match=f"admin/password {said}"):
        write_users(tmp_path, {})
    assert (list(tmp_path.iterdir()), file.read_bytes()) == ([file.parent], content)
    assert "admin: the password that was given" in write_users(tmp_path, {ADMIN: "chosen"})


def test_a_password_file_that_was_written_by_hand_may_end_with_a_line_break(
    tmp_path: Path,
) -> None:
    for user in USERS:
        (tmp_path / user).mkdir()
        (tmp_path / user / "password").write_text(f"{PASSWORDS[user]}\n")
    write_users(tmp_path, {})
    assert (tmp_path / ACL_FILE).read_text() == acl(PASSWORDS)
