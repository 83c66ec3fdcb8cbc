"""What `reco replay --out` saves, and when it saves nothing."""

from pathlib import Path

import pytest
import redis

from infra.embedded import Addresses
from shared.partitioner import partition_of
from shared.snapshots import load
from tests.own_shop import write_folder
from tests.unit.reco.command_line import MODEL, Reco

pytestmark = pytest.mark.usefixtures("here")


def test_what_was_rebuilt_is_saved_as_the_store_holds_it(reco: Reco, tmp_path: Path) -> None:
    saved, rebuilt = tmp_path / "saved.snapshot", tmp_path / "rebuilt.snapshot"
    assert reco("snapshot", "save", "--out", saved).code == 0
    assert reco("replay", "--out", rebuilt).code == 0
    assert load(rebuilt) == load(saved)


@pytest.mark.parametrize("line", ["--gamma 0.9", "--data {own}", "--model another"])
def test_where_nothing_was_rebuilt_no_snapshot_is_written(
    reco: Reco, tmp_path: Path, line: str
) -> None:
    out, own = tmp_path / "out.snapshot", tmp_path / "own"
    if "own" in line:
        write_folder(own)
    result = reco("replay", "--out", out, *line.format(own=own).split())
    assert (result.code, out.exists()) == (1, False)
    assert "✗ partition" in result.out
    assert result.err.startswith(f"reco: {out} was not written, since nothing could be rebuilt: ")
    assert len(result.err.splitlines()) == 1


def test_where_store_and_log_do_not_agree_no_snapshot_is_written(
    reco: Reco, addresses: Addresses, tmp_path: Path
) -> None:
    out = tmp_path / "out.snapshot"
    key, field = f"reco:{{{MODEL}:p{partition_of(b'42', 12)}}}:state", "a:42"
    with redis.Redis.from_url(addresses.redis) as client:
        row = client.hget(key, field)
        assert isinstance(row, bytes)
        client.hdel(key, field)
        try:
            result = reco("replay", "--out", out)
        finally:
            client.hset(key, field, row)
    assert (result.code, out.exists()) == (1, False)
    assert "Σn counts 0 outcomes, the log holds 10 valid ones" in result.out
    assert result.err.startswith(f"reco: {out} was not written, since store and log do not agree ")
    assert len(result.err.splitlines()) == 1
