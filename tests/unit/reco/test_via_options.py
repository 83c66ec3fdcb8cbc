"""Where shoppers find the API."""

import click
import pytest
from click.testing import CliRunner

from reco import via_options
from reco.via_options import Via


def parsed(*arguments: str) -> tuple[Via | None, str]:
    """The options as a command gets them, and what was complained of."""
    got: list[Via | None] = []

    @click.command()
    @via_options.options
    def command(via: Via | None) -> None:
        got.append(via)

    result = CliRunner().invoke(command, arguments)
    return (got[0] if got else None), result.output


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000",
        "https://shop.example",
        "HTTP://shop_1:65535/",
        "http://[::1]:8000",
        "https://münchen.example",
    ],
)
def test_addresses_are_taken_as_they_are(url: str) -> None:
    via, _ = parsed("--via", f"{url}, http://127.0.0.1:1")
    assert via is not None
    assert via.urls == [url, "http://127.0.0.1:1"]


@pytest.mark.parametrize("url", ["http://two words:8000", "http://a\tb:80", "http://a\x1b:80"])
def test_blanks_and_control_characters_are_no_part_of_an_address(url: str) -> None:
    via, output = parsed("--via", url)
    assert via is None
    assert "is no address such as" in output
    assert "\x1b" not in output
