from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from reco import http_options
from reco.__main__ import run
from reco.http_options import HttpOptions


def parsed(*arguments: str) -> tuple[HttpOptions | None, str]:
    """The options as a command gets them, and what was complained of."""
    got: list[HttpOptions | None] = []

    @click.command()
    @http_options.http
    def command(http: HttpOptions | None) -> None:
        got.append(http)

    result = CliRunner().invoke(command, arguments)
    return (got[0] if got else None), result.output


def test_without_an_address_there_is_no_api_and_variables_for_others_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("first-key-of-the-shop\n")
    monkeypatch.setenv("RECO_API_KEYS", str(keys))
    monkeypatch.setenv("RECO_REWARD_WINDOW", "5s")
    assert parsed() == (None, "")
    options, _ = parsed("--http", "a:1")
    assert options is not None
    assert (options.keys, options.rules.window_ms) == ([b"first-key-of-the-shop"], 5_000)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--reward-window", "5s"), ("--most-waiting", "9"), ("--rank-budget-ms", "9")),
        *(("--http-in-flight", "9"), ("--drain", "5s")),
        ("--cors-origin", "https://shop.example"),
    ],
)
def test_what_would_be_ignored_without_an_address_is_refused(option: str, value: str) -> None:
    options, output = parsed(option, value)
    assert options is None
    assert f"{option} would be ignored: add --http HOST:PORT" in " ".join(output.split())


def test_keys_that_would_guard_nothing_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("first-key-of-the-shop\n")
    options, output = parsed("--api-keys", str(file))
    assert options is None
    assert "--api-keys would be ignored: add --http HOST:PORT" in " ".join(output.split())
    assert "first-key" not in output


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("1.5", 1_500)]
)
def test_durations_have_units(text: str, milliseconds: int) -> None:
    options, _ = parsed("--http", "127.0.0.1:0", "--reward-window", text)
    assert options is not None
    assert options.rules.window_ms == milliseconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "0s", "1e9s", "3 d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    options, output = parsed("--http", "a:1", "--reward-window", text)
    assert options is None
    assert "is no duration, such as 30s" in output


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the shop\nfirst-key-of-the-shop\n\nsecond-key-of-the-shop\n")
    options, _ = parsed("--http", "a:1", "--api-keys", str(file))
    assert options is not None
    assert options.keys == [b"first-key-of-the-shop", b"second-key-of-the-shop"]


@pytest.mark.parametrize(("text", "why"), [("# none\n", "has no key"), ("short\n", "shorter")])
def test_a_file_without_good_keys_does_not_open_the_api(
    tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    options, output = parsed("--http", "a:1", "--api-keys", str(file))
    assert options is None
    assert why in " ".join(output.split())
    assert "can't read" in parsed("--http", "a:1", "--api-keys", str(tmp_path / "none"))[1]


@pytest.mark.parametrize(
    "origin",
    [
        "https://shop.example",
        "http://127.0.0.1:8080",
        "http://[::1]:3000",
        "capacitor://localhost",
        "*",
    ],
)
def test_pages_are_let_in_by_their_origin(origin: str) -> None:
    options, _ = parsed("--http", "a:1", "--cors-origin", origin)
    assert options is not None
    assert options.origins == [origin]


@pytest.mark.parametrize(
    "origin",
    [
        *("", "not an origin", "shop.example", "https://", "//shop.example"),
        *("https://shop.example/", "https://shop.example/app", "https://shop.example?a"),
        *("https://Shop.example", "https://u:p@shop.example", "https://shop.example:443"),
        *("http://shop.example:0", "http://shop.example:99999", "http://shop.example:", "**"),
    ],
)
def test_what_no_browser_says_is_no_origin(origin: str) -> None:
    options, output = parsed("--http", "a:1", "--cors-origin", origin)
    assert options is None
    assert "is no origin: give * for all, or scheme://host[:port]" in " ".join(output.split())


def test_the_origin_that_any_page_may_have_lets_none_in() -> None:
    options, output = parsed("--http", "a:1", "--cors-origin", "null")
    assert options is None
    assert "null is what any page in a sandbox says" in output


def test_no_origin_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECO_CORS_ORIGIN", "")
    options, _ = parsed("--http", "a:1")
    assert options is not None
    assert options.origins == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["serve", "--no-stream"], "nothing to do"),
        (["serve", "--propensities"], "--propensities would be ignored: only lints"),
        (
            ["serve", "--policy", "lints", "--propensities", "--experiment", "linucb:1,random:1"],
            "--propensities would be ignored: only lints",
        ),
        (["produce", "--via", "127.0.0.1:8000"], "no address such as"),
    ],
)
def test_wrong_usage_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], why: str
) -> None:
    assert run(arguments) == 2
    assert why in capsys.readouterr().err


def test_shoppers_without_a_server_say_what_to_do(
    capsys: pytest.CaptureFixture[str], data_folder: Path
) -> None:
    address = "http://127.0.0.1:9"
    arguments = ["produce", "--via", address, "--data", str(data_folder), "--count", "1"]
    assert run([*arguments, "--patience-s", "0"]) == 1
    error = capsys.readouterr().err
    assert "does not serve" in error
    assert "reco serve --http" in error
