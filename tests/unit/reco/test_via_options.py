"""Where shoppers find the API."""

from pathlib import Path

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


def test_a_share_of_none_that_are_late_may_be_given_beside_when_they_come() -> None:
    via, _ = parsed("--via", "http://127.0.0.1:1", "--late-share", "0", "--late-after", "9s")
    assert via is not None
    assert (via.habits.late_share, via.habits.late_s) == (0.0, 9.0)


def test_variables_that_are_there_for_other_commands_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("first-key-of-the-shop\n")
    monkeypatch.setenv("RECO_API_KEY_FILE", str(key))
    assert parsed() == (None, "")
    via, _ = parsed("--via", "http://127.0.0.1:1")
    assert via is not None
    assert via.key == "first-key-of-the-shop"


@pytest.mark.parametrize("key", ["schlüssel-des-ladens", "key-of-\x01-the-shop"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    tmp_path: Path, key: str
) -> None:
    path = tmp_path / "key"
    path.write_text(key)
    via, output = parsed("--via", "http://127.0.0.1:1", "--api-key-file", str(path))
    assert via is None
    assert "no header can carry" in " ".join(output.split())
    assert key not in output


@pytest.mark.parametrize("url", ["http://two words:8000", "http://a\tb:80", "http://a\x1b:80"])
def test_blanks_and_control_characters_are_no_part_of_an_address(url: str) -> None:
    via, output = parsed("--via", url)
    assert via is None
    assert "is no address such as" in output
    assert "\x1b" not in output
