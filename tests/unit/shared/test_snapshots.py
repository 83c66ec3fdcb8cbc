import errno
import os
from pathlib import Path

import pytest
from msgspec import structs

from shared.ports import Position, Source, State, Watermarks
from shared.snapshots import SUFFIX, Snapshot, SnapshotError, SnapshotFolder, load, save
from tests.scenario import CONFIG

SOURCE = Source("c", "outcomes", 2)


def snapshot(next_offset: int, model: str = "m", source: Source = SOURCE) -> Snapshot:
    position = Position(next_offset, source, 1, "w:1", CONFIG)
    return Snapshot(model, {0: State(position, {7: b"\x00\xffrow"})})


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / f"one{SUFFIX}"
    save(path, snapshot(5))
    assert load(path) == snapshot(5)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / f"one{SUFFIX}"
    save(path, snapshot(5))
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(SnapshotError):
            load(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(SnapshotError, match="damaged"):
        load(path)


def test_a_file_that_is_not_there_or_is_something_else_is_said(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="can't read"):
        load(tmp_path / "none")
    (tmp_path / "other").write_text("hello")
    with pytest.raises(SnapshotError, match="not a LiveReco snapshot"):
        load(tmp_path / "other")


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path(), Path("/")):
        with pytest.raises(SnapshotError, match="it is no file"):
            save(path, snapshot(5))
    assert list(tmp_path.iterdir()) == [pipe]
    assert pipe.is_fifo()


def test_a_disk_that_fills_up_is_said_and_nothing_is_left_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / f"one{SUFFIX}"
    save(path, snapshot(5))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SnapshotError, match="No space left"):
        save(path, snapshot(6))
    assert list(tmp_path.iterdir()) == [path]
    assert load(path) == snapshot(5)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SnapshotError, match="can't write"):
        save(tmp_path / "file" / f"one{SUFFIX}", snapshot(5))


@pytest.mark.parametrize(
    ("held", "found"),
    [(Watermarks(0, 9), 8), (Watermarks(4, 7), 5), (Watermarks(6, 7), None), (Watermarks(8, 9), 8)],
)
def test_the_furthest_snapshot_that_the_log_continues_is_taken(
    tmp_path: Path, held: Watermarks, found: int | None
) -> None:
    for offset in (3, 5, 8):
        save(tmp_path / f"{offset}{SUFFIX}", snapshot(offset))
    (tmp_path / f"broken{SUFFIX}").write_text("damaged")
    state = SnapshotFolder(tmp_path, "m", CONFIG).newest(0, SOURCE, held)
    assert (state.position.next_offset if state else None) == found


def test_a_snapshot_of_another_encoder_does_not_hide_an_older_one_that_fits(tmp_path: Path) -> None:
    save(tmp_path / f"fits{SUFFIX}", snapshot(5))
    other = snapshot(8)
    position = structs.replace(
        other.states[0].position, config=structs.replace(CONFIG, encoder_id="new")
    )
    save(tmp_path / f"other{SUFFIX}", Snapshot("m", {0: State(position, other.states[0].rows)}))
    found = SnapshotFolder(tmp_path, "m", CONFIG).newest(0, SOURCE, Watermarks(0, 9))
    assert found == snapshot(5).states[0]


def test_snapshots_of_another_model_or_log_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / f"a{SUFFIX}", snapshot(5, model="other"))
    save(tmp_path / f"b{SUFFIX}", snapshot(5, source=Source("elsewhere", "outcomes", 2)))
    again = Source("c", "outcomes", 2, topic_id="made again")
    save(tmp_path / f"c{SUFFIX}", snapshot(5, source=again))
    folder = SnapshotFolder(tmp_path, "m", CONFIG)
    known = Source("c", "outcomes", 2, topic_id="first")
    assert folder.newest(0, known, Watermarks(0, 9)) is None
    assert folder.newest(0, again, Watermarks(0, 9)) is not None
    (tmp_path / f"c{SUFFIX}").unlink()
    assert folder.newest(0, SOURCE, Watermarks(0, 9)) is None
    assert folder.newest(1, SOURCE, Watermarks(0, 9)) is None
    assert SnapshotFolder(None, "m", CONFIG).newest(0, SOURCE, Watermarks(0, 9)) is None
