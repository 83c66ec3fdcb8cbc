"""Files that a command writes at its end: refused before its work where they can't be written."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

PLOT_FORMATS: Final = (".png", ".svg", ".pdf")


def check_file(path: Path) -> None:
    """Look whether a file can be written, without touching it.

    Raises:
        click.BadParameter: it can't.
    """
    try:
        if path.is_dir():
            raise click.BadParameter(f"{path} is a folder: name a file")
        if not path.parent.is_dir():
            raise click.BadParameter(f"can't write {path}: it is in a folder that does not exist")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise click.BadParameter(f"can't write {path}: name a file that can be written")
    except OSError as error:  # too long, or in a folder that may not be looked into
        raise click.BadParameter(f"can't write {path}: {error.strerror}") from error


def checked_json(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Callback of `--json [FILE]`."""
    if value not in (None, "-"):
        check_file(Path(value))
    return value


def plot(what: str) -> Callable[[_F], _F]:
    """`--plot FILE`: draw something at the end."""
    return click.option(
        "--plot",
        show_envvar=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        callback=_checked_plot,
        help=f"{what} ({', '.join(PLOT_FORMATS[:-1])} or {PLOT_FORMATS[-1]}).",
    )


def _checked_plot(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    if path is None:
        return None
    if path.suffix.lower() not in PLOT_FORMATS:
        raise click.BadParameter(
            f"{path} does not end in {', '.join(PLOT_FORMATS)}: choose one of these formats"
        )
    check_file(path)
    if find_spec("matplotlib") is None:
        raise click.BadParameter("the package matplotlib is missing: install the extra eval")
    return path
