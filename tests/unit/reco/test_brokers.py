import tempfile
from pathlib import Path
from typing import cast

import click
import pytest

from reco.brokers import open_delivery
from shared.kafka import KafkaCluster
from shared.testing import FakeBroker


class Cluster:
    """A broker with transactions that notes by which names its producers go."""

    embedded = False

    def __init__(self) -> None:
        self.names: list[str] = []
        self._broker = FakeBroker({"visits": 1})

    def transactional_producer(self, name: str) -> object:
        self.names.append(name)
        return self._broker.transactional_producer(name)


def test_servers_of_one_host_go_by_different_names_and_a_successor_by_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cluster = Cluster()
    first, second = (open_delivery(cast(KafkaCluster, cluster), None, "g") for _ in range(2))
    assert len(set(cluster.names)) == 2
    first.close()
    successor = open_delivery(cast(KafkaCluster, cluster), None, "g")
    assert cluster.names[2] == cluster.names[0]
    second.close()
    successor.close()


def test_a_folder_for_locks_that_there_is_not_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(click.UsageError, match=r"can't lock .*missing.* set TMPDIR to a folder"):
        open_delivery(cast(KafkaCluster, Cluster()), None, "g")
