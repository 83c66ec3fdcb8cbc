"""`--plot` of the commands that have learning curves to show."""

from collections.abc import Callable, Mapping
from pathlib import Path

import click

from reco.simulation import Window


def draw_curves(
    path: Path, curves: Mapping[str, list[Window]], title: str, tell: Callable[[str], None]
) -> None:
    """Draw the curves into a file.

    Raises:
        click.UsageError: matplotlib is missing, or the file can't be written.
    """
    try:
        from reco.plots import draw_learning_curves
    except ImportError as error:
        raise click.UsageError("--plot needs matplotlib: install the extra `eval`") from error
    try:
        draw_learning_curves(curves, path, title)
    except OSError as error:
        raise click.UsageError(f"can't write {path}: {error.strerror}") from error
    tell(f"plot: {path}")
