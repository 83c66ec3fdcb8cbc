"""Where to listen, as people write it."""

import pytest

from shared.host_port import host_port


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("shop_1.example:0", ("shop_1.example", 0)),
        ("münchen.example:65535", ("münchen.example", 65_535)),
        ("[::1]:8000", ("::1", 8000)),
        ("::1:8000", ("::1", 8000)),
        ("[fe80::1%eth0]:8000", ("fe80::1%eth0", 8000)),
    ],
)
def test_host_and_port_are_told_apart(text: str, address: tuple[str, int]) -> None:
    assert host_port(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8000",
        ":8000",
        "host:",
        "host:http",
        "host:65536",
        "host:-1",
        "host:٨٠",
        f"host:{'9' * 5_000}",
        "http://127.0.0.1:8000",
        "user@host:8000",
        "two words:8000",
        "[::1:8000",
        "a..b:8000",
        f"{'a' * 64}:8000",
    ],
)
def test_what_nothing_can_listen_at_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        host_port(text)
