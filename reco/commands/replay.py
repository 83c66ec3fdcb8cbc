"""`reco replay`: the state again from the log, compared bit for bit."""

from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from reco import options
from reco.brokers import open_cluster, outcomes_log
from reco.catalogue_feed import open_products
from reco.data import load_or_prepare
from reco.logs import say
from reco.rebuild import CannotReplay, Report, compare_all
from reco.snapshot_files import bases_from, save_snapshot
from reco.state import read_states
from reco.stores import open_store
from shared.events import OUTCOMES
from shared.ports import State
from shared.snapshots import Snapshot
from trainer.apply import DEDUPE_WINDOW, Rules


@click.command()
@options.kafka
@options.redis
@options.model
@options.data
@options.gamma
@click.option(
    "--check", "checking", is_flag=True, help="Compare with the store; exit 1 if not equal."
)
@click.option(
    "--snapshot",
    "snapshot_file",
    type=click.Path(path_type=Path),
    help="Start from this snapshot: for a log that no longer reaches back to its start.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Save what was rebuilt as a snapshot, for `reco snapshot load`; refused where an "
    "invariant does not hold.",
)
@options.dedupe_window(DEDUPE_WINDOW)
@options.json_output("the counts")
@options.patience
def command(
    kafka: str,
    redis: str,
    model: str,
    data: Path,
    gamma: float,
    checking: bool,
    snapshot_file: Path | None,
    out: Path | None,
    dedupe_window: int,
    json_file: str | None,
    patience_s: float,
) -> None:
    """Rebuild the model's state from the log, and hold it against the store bit for bit.

    Runs beside everything else: it compares up to the offsets that the store has reached.

    Example: reco replay --check
    """
    dataset = load_or_prepare(data)
    bases = bases_from(snapshot_file)
    cluster = open_cluster(kafka, patience_s)
    store = open_store(redis, model, patience_s)
    source = outcomes_log(cluster)
    states = read_states(store, range(source.partitions))
    products = open_products(cluster, dataset)  # after the states: what they know is known here
    rules = Rules.of(
        dataset.config_of(gamma), dataset.arms, source.partitions, dedupe_window, products
    )
    consumer = cluster.consumer(OUTCOMES, reset="error")
    try:
        report, rebuilt = compare_all(consumer, rules, states, bases, source)
    except CannotReplay as error:
        raise click.ClickException(str(error)) from error
    finally:
        consumer.close()
    options.write_json(as_json(report), json_file)
    tell = say if json_file == "-" else click.echo
    for violation in report.violations:
        tell(f"✗ {violation}")
    tell(sentence(report))
    if out:
        _refuse_to_save(out, report, rebuilt)
        save_snapshot(out, Snapshot(model, rebuilt))
    if checking and not report.passed:
        click.get_current_context().exit(1)


def _refuse_to_save(out: Path, report: Report, rebuilt: Mapping[int, State]) -> None:
    # Whoever loads the file takes it for the model's state at these offsets, whole.
    if not rebuilt:
        raise click.ClickException(
            f"{out} was not written, since nothing could be rebuilt: check --model and --redis, "
            "and give --data and --gamma as the model's trainers have them"
        )
    if report.violations:
        raise click.ClickException(
            f"{out} was not written, since store and log do not agree (✗ above): give --data, "
            "--gamma and --dedupe-window as the model's trainers have them, and if they are so, "
            "load an earlier snapshot"
        )


def as_json(report: Report) -> dict[str, object]:
    """The report with its verdict."""
    return {**msgspec.to_builtins(report), "passed": report.passed}


def sentence(report: Report) -> str:
    """The result in a line."""
    mark = "✓" if report.passed else "✗"
    text = (
        f"{mark} {report.differing_bits} differing bits over {report.outcomes:,} outcomes, "
        f"{report.arms} arms (applied {report.applied:,}, duplicates {report.duplicates:,}, "
        f"dead letters {report.dead_letters:,})"
    )
    return f"{text}; the trainer is {report.lag:,} records behind" if report.lag else text
