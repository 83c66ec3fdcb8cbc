import socket

import click
import pytest

from reco.page import free_port


def test_a_port_of_0_becomes_one_that_can_be_listened_at() -> None:
    port = free_port(0)
    assert port > 0
    assert free_port(port) == port


def test_a_port_that_is_taken_is_refused_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(click.BadParameter, match=f"can't listen at 127.0.0.1:{port}"):
            free_port(port)
