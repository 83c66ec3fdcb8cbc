import socket
from pathlib import Path

import pytest

from infra import free_ports as module
from infra.free_ports import free_port, free_ports

GIVEN_AWAY = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not GIVEN_AWAY.exists(), reason="only Linux says which ports it gives away")
def test_a_port_is_chosen_that_no_outgoing_connection_is_given() -> None:
    first, last = map(int, GIVEN_AWAY.read_text().split())
    assert [port for port in free_ports(100) if first <= port <= last] == []


def test_ports_differ_and_can_be_listened_at() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_a_port_that_is_taken_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = free_ports(2)
    monkeypatch.setattr(module, "_RANGE", [taken, free])
    with socket.create_server(("127.0.0.1", taken)):
        assert {free_port() for _ in range(20)} == {free}
        with pytest.raises(OSError, match="no 2 free ports"):
            free_ports(2)
