"""The prepared data, made on the spot where there is none yet."""

import os
import shutil
from pathlib import Path

import click

from reco.logs import say
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
            _prepare_whole(folder)
        return load_data(folder)
    except DataError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise click.UsageError(f"can't read {folder}: {error.strerror}; choose another") from error


def _prepare_whole(folder: Path) -> None:
    """Make the folder appear with everything in it: several processes may start together."""
    from producer.prepare import prepare  # brings scikit-learn: a second, for once in a lifetime

    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        prepare(draft, DEFAULT_SEED)
        draft.rename(folder)
    except DataError as error:  # of the folder, which people know, rather than of the draft
        raise DataError(str(error).replace(str(draft), str(folder))) from error
    except OSError as error:
        # Another process was quicker; it has written the same bytes.
        if not folder.is_dir():
            raise DataError(f"can't write {folder} ({error.strerror}); choose another") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
