"""docs/adopting.md: the folder that it writes."""

from pathlib import Path

from shared.catalogue import load_data
from tests.own_shop import write_folder


def test_what_the_page_writes_is_a_folder_of_data(tmp_path: Path) -> None:
    data = load_data(write_folder(tmp_path / "data"))
    assert data.arms == [101, 102, 103, 104]
    assert data.feature_names == ["category_Garden", "category_Tools", "price"]
    assert data.encoder.d == 13
