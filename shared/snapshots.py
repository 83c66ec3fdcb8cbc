"""Snapshots: the state of every partition in one file, with a checksum and without pickle.

A snapshot serves where the log no longer reaches back to its start: it is taken while all runs,
and the log from its offsets on brings it up to date.
"""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from shared.events import UNDECODABLE
from shared.ports import ModelConfig, Source, State, Watermarks

SUFFIX: Final = ".snapshot"
_MAGIC: Final = b"LiveReco snapshot 1\n"


class SnapshotError(Exception):
    """The file is not a whole snapshot, or could not be read or written."""


class Snapshot(msgspec.Struct, frozen=True):
    """All partitions' states of one model."""

    model: str
    states: dict[int, State]


def save(path: Path, snapshot: Snapshot) -> None:
    """Write the file so that it is there whole or not at all.

    Raises:
        SnapshotError: it can't be written.
    """
    body = msgspec.msgpack.encode(snapshot)
    try:
        if not path.name or (path.exists() and not path.is_file()):
            # A device would be replaced by the file, for all who use it.
            raise SnapshotError(f"can't write {path}: it is no file")
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body)
    except OSError as error:
        raise SnapshotError(f"can't write {path}: {error.strerror or error}") from error


def load(path: Path) -> Snapshot:
    """Read a file that `save` wrote.

    Raises:
        SnapshotError: there is no such file, or it is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"can't read {path}: {error.strerror or error}") from error
    head, checksum = content[: len(_MAGIC)], content[len(_MAGIC) :][:4]
    body = content[len(_MAGIC) + 4 :]
    if head != _MAGIC:
        raise SnapshotError(f"{path} is not a LiveReco snapshot")
    if zlib.crc32(body).to_bytes(4, "little") != checksum:
        raise SnapshotError(f"{path} is damaged: the checksum does not match")
    try:
        return msgspec.msgpack.decode(body, type=Snapshot)
    except UNDECODABLE as error:
        raise SnapshotError(f"{path} is damaged: {error}") from error


class SnapshotFolder:
    """The snapshots of one model in a folder, as `reco snapshot save` leaves them.

    Args:
        folder: None for none.
        model: its name.
        config: what they must have been made with; others are passed over.
    """

    def __init__(self, folder: Path | None, model: str, config: ModelConfig) -> None:
        self._folder = folder
        self._model = model
        self._config = config

    def newest(self, partition: int, source: Source, held: Watermarks) -> State | None:
        """The furthest state of this partition that the log still continues; None without one."""
        states = [
            snapshot.states[partition]
            for snapshot in self._readable().values()
            if snapshot.model == self._model and partition in snapshot.states
        ]
        usable = [
            state
            for state in states
            if state.position.config == self._config
            and state.position.source.is_same_log(source)
            and held.start <= state.position.next_offset <= held.end
        ]
        return max(usable, key=lambda state: state.position.next_offset, default=None)

    def _readable(self) -> Mapping[Path, Snapshot]:
        found: dict[Path, Snapshot] = {}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder else []:
            try:
                found[path] = load(path)
            except SnapshotError:
                continue  # a damaged one must not stand in the way of a whole one
        return found


def _replace(path: Path, content: bytes) -> None:
    """Write a draft beside it, and give that its name."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        # Half of one would take room where there may be none left, and nobody would look for it.
        draft.unlink(missing_ok=True)
        raise
