"""Options that several commands share."""

import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from reco import options


@click.command()
@options.redis
def command(redis: str) -> None:
    click.echo(redis)


def called(*arguments: object, **environment: object) -> Result:
    return CliRunner().invoke(
        command, [str(a) for a in arguments], env={n: str(v) for n, v in environment.items()}
    )


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("p@ss:w/rd\n")
    return path


def test_the_password_of_a_file_goes_into_the_address(secret: Path) -> None:
    result = called("--redis", "rediss://trainer@host:6379/1", "--redis-password-file", secret)
    assert result.output == "rediss://trainer:p%40ss%3Aw%2Frd@host:6379/1\n"


def test_the_file_may_come_by_variable_and_the_user_be_missing(secret: Path) -> None:
    result = called(RECO_REDIS="redis://host:6379", RECO_REDIS_PASSWORD_FILE=secret)
    assert result.output == "redis://:p%40ss%3Aw%2Frd@host:6379\n"


def test_a_password_in_the_address_comes_first(secret: Path) -> None:
    address = "redis://admin:other@host:6379"
    assert called("--redis", address, RECO_REDIS_PASSWORD_FILE=secret).output == f"{address}\n"


def test_without_a_file_the_address_stays_as_it_is() -> None:
    assert called("--redis", "redis://[odd").output == "redis://[odd\n"


def test_a_file_that_has_no_password_is_refused_in_one_sentence(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path, why in (
        (empty, f"{empty} is empty"),
        (binary, f"{binary} holds no text"),
        (tmp_path / "gone", f"can't read {tmp_path / 'gone'}: No such file or directory"),
    ):
        result = called("--redis-password-file", path)
        assert result.exit_code == 2
        assert why in result.output


def test_a_port_of_0_becomes_one_that_can_be_listened_at_later_too() -> None:
    port = options.free_port(0)
    assert 0 < port < 32_768  # from there on outgoing connections take theirs
    assert options.free_port(port) == port


def test_a_port_that_is_taken_is_refused_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(click.BadParameter, match=f"can't listen at 127.0.0.1:{port}"):
            options.free_port(port)
