"""The prepared data, made on the spot where there is none yet."""

from pathlib import Path

import click

from producer.prepare import prepare
from reco.wiring import say
from shared.catalogue import DataError, DataSet, load_data

DEFAULT_SEED = 1237


def load_or_prepare(folder: Path) -> DataSet:
    """What `reco prepare` wrote into the folder; without a folder, prepare it first.

    Raises:
        click.UsageError: the folder holds something else, or can't be written.
    """
    try:
        if not folder.exists():
            say(f"{folder} is not there: preparing it (reco prepare --out {folder}) …")
            prepare(folder, DEFAULT_SEED)
        return load_data(folder)
    except DataError as error:
        raise click.UsageError(str(error)) from error
