from collections.abc import Sequence

from rich.console import Console

from reco.status_screen import MOST_REASONS, screen
from reco.terminal import printable_lines
from tests.contract.board_suite import presence
from tests.unit.reco.test_status import World

EVIL = "\x1b[31m\x07"
NAME = "3f2a9c8b1d2e-1-18ec7748b14fd0f9"
"""As a container's process is called."""


def shown(width: int, not_ready: Sequence[str] = ()) -> list[str]:
    """The lines of a screen of so many columns."""
    world = World()
    world.board.announce(presence("trainer-1", kind="trainer", not_ready=[*not_ready]))
    world.board.announce(presence(NAME, partitions=[0, 1]))
    console = Console(width=width)
    with console.capture() as capture:
        console.print(screen(world.status()))
    return capture.get().splitlines()


def test_on_eighty_columns_no_name_of_a_process_and_no_title_is_broken() -> None:
    lines = shown(80)
    assert max(map(len, lines)) <= 80
    [titles] = [line for line in lines if "view age" in line]
    for title in ("process", "partitions", "lag", "rate /s", "ready"):
        assert title in titles
    assert any(f"server {NAME}" in line for line in lines)
    assert any("linucb, exactly-once" in line for line in lines)


def test_on_a_narrow_screen_nothing_is_left_out() -> None:
    text = "".join(shown(40)).replace("│", "").replace(" ", "")
    assert text.count("yes") == 3
    assert text.count("0.10s") == 3


def test_many_reasons_leave_room_for_the_rest() -> None:
    lines = shown(120, [f"partition {i}: there is no state" for i in range(12)])
    named = [line for line in lines if "there is no state" in line]
    assert len(named) == MOST_REASONS
    assert "  … and 4 more: --json tells all" in [line.rstrip() for line in lines]
    [row] = [line for line in lines if "│trainer trainer-1" in line]
    assert row.rstrip("│").rstrip().endswith("no")


def test_what_processes_say_of_themselves_steers_no_terminal() -> None:
    world = World()
    who = presence(f"s{EVIL}", partitions=[0], policy=f"p{EVIL}", not_ready=[f"why{EVIL}"])
    world.board.announce(who)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(screen(world.status()))
    shown = capture.get()
    assert printable_lines(shown) == shown
    for word in ("server s", "p", "why"):
        assert f"{word}\\x1b[31m\\x07" in shown
