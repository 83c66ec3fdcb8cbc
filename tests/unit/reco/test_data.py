from pathlib import Path

import click
import pytest

from reco.data import load_or_prepare


def test_a_folder_that_can_not_be_made_is_named_and_not_its_draft(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(click.UsageError, match=r"/file/data is not a folder; choose another$"):
        load_or_prepare(tmp_path / "file" / "data")


def test_a_folder_that_has_no_name_a_disk_can_hold_is_one_sentence() -> None:
    with pytest.raises(click.UsageError, match="File name too long; choose another"):
        load_or_prepare(Path("d" * 300))
