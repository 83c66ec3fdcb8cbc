"""`reco snapshot`: take the state out into a file, and put it back."""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import click

from reco import options
from reco.snapshot_files import load_snapshot, save_snapshot
from reco.state import read_states
from reco.stores import open_store
from shared.events import OUTCOMES
from shared.ports import CorruptState, Position, State, StateStore
from shared.settings import PARTITIONS
from shared.snapshots import SUFFIX, Snapshot


@click.group()
def command() -> None:
    """Save and load the state of all partitions.

    A snapshot serves where the log no longer reaches back to its start. The trainer looks for one
    by itself in its --snapshots folder when the state in the store is missing.

    Example: reco snapshot save --out snapshots
    """


@command.command("save")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("snapshots"),
    show_default=True,
    help=f"A folder (the file gets its name from model and time), or a file *{SUFFIX}.",
)
@options.redis
@options.model
@options.patience
def save_command(out: Path, redis: str, model: str, patience_s: float) -> None:
    """Copy the state into a file while everything runs.

    Example: reco snapshot save --out snapshots
    """
    store = open_store(redis, model, patience_s)
    states = read_states(store, range(PARTITIONS[OUTCOMES]))
    found = {p: state for p, state in enumerate(states) if state}
    if not found:
        raise click.ClickException(f"the store at {store.address} has no model {model!r} to save")
    path = out if out.suffix == SUFFIX else out / _name(model)
    save_snapshot(path, Snapshot(model, found))
    click.echo(f"saved {_summary(found)} to {path}")


@command.command("load")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--force",
    is_flag=True,
    help="Replace a state that is further than the snapshot, of another model or log, or corrupt.",
)
@options.redis
@options.model
@options.patience
def load_command(file: Path, force: bool, redis: str, model: str, patience_s: float) -> None:
    """Put a snapshot in the place of the state; trainers and servers notice at once.

    Trainers go on at the snapshot's offsets, so what came later is applied again from the log. A
    snapshot of another encoder than the state's is refused, with --force too.

    Example: reco snapshot load snapshots/linucb-20260126T072900Z.snapshot
    """
    snapshot = load_snapshot(file)
    store = open_store(redis, model, patience_s)
    current = _positions(store, snapshot, force)
    _refuse_what_is_never_served(snapshot, current, model)
    if not force:
        _refuse_another(snapshot, current, model)
        _refuse_to_go_back(snapshot, current)
    for partition in sorted(snapshot.states):
        store.replace(partition, snapshot.states[partition])
    click.echo(f"loaded {_summary(snapshot.states)} from {file} into model {model!r}")


def _positions(store: StateStore, snapshot: Snapshot, force: bool) -> dict[int, Position]:
    """The states there are; with force without those that are corrupt, and replaced."""
    found: dict[int, Position] = {}
    for partition in range(PARTITIONS[OUTCOMES]):
        try:
            [position] = store.positions([partition])
        except CorruptState as error:
            if not force:
                raise
            if partition not in snapshot.states:
                raise click.UsageError(
                    f"partition {partition} in the store is corrupt and the snapshot has no state "
                    "of it: give one that has"
                ) from error
            continue
        if position:
            found[partition] = position
    return found


def _refuse_what_is_never_served(
    snapshot: Snapshot, current: Mapping[int, Position], model: str
) -> None:
    # Each with each: the snapshot may lack partitions whose rows would stay beside its own.
    for state, held in product(snapshot.states.values(), current.values()):
        if state.position.config != held.config:
            raise click.UsageError(
                f"the snapshot was made with {state.position.config.unlike(held.config)} as the "
                f"state of model {model!r}: whoever works on that can't go on with it, so --force "
                "does not help; load it into another --model"
            )


def _refuse_another(snapshot: Snapshot, current: Mapping[int, Position], model: str) -> None:
    if current and snapshot.model != model:
        raise click.UsageError(
            f"the snapshot is of model {snapshot.model!r}, and {model!r} has a state of its own; "
            "choose another --model, or give --force to replace that state"
        )
    for state, held in product(snapshot.states.values(), current.values()):
        source = state.position.source
        if not source.is_same_log(held.source):
            raise click.UsageError(
                f"the snapshot is of another log than the state of model {model!r} "
                f"({source.became(held.source)}); choose another --model, or give --force if the "
                "snapshot's is the log that trainers read"
            )


def _refuse_to_go_back(snapshot: Snapshot, current: Mapping[int, Position]) -> None:
    for partition, held in current.items():
        state = snapshot.states.get(partition)
        if state and held.next_offset > state.position.next_offset:
            raise click.UsageError(
                f"partition {partition} in the store is at offset {held.next_offset}, the "
                f"snapshot at {state.position.next_offset}; give --force to go back (the log "
                "brings it forward again as far as it reaches)"
            )


def _name(model: str) -> str:
    return f"{model}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"


def _summary(states: dict[int, State]) -> str:
    arms = sum(len(state.rows) for state in states.values())
    records = sum(state.position.next_offset for state in states.values())
    return f"{arms} arms of {len(states)} partitions (the first {records:,} records of the log)"
