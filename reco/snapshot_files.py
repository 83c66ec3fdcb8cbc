"""Snapshot files as the commands read and write them: what fails is an error of usage."""

from pathlib import Path

import click

from shared.ports import State
from shared.snapshots import Snapshot, SnapshotError, load, save


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot.

    Raises:
        click.UsageError: it can't be read.
    """
    try:
        return load(path)
    except SnapshotError as error:
        raise click.UsageError(f"{error}; take one with `reco snapshot save`") from error


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot.

    Raises:
        click.UsageError: it can't be written.
    """
    try:
        save(path, snapshot)
    except SnapshotError as error:
        raise click.UsageError(f"{error}; choose another --out") from error


def bases_from(path: Path | None) -> dict[int, State]:
    """The states that a replay starts from, by partition; none where it starts with the log.

    Raises:
        click.UsageError: the snapshot can't be read.
    """
    return load_snapshot(path).states if path else {}
