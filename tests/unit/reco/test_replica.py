import os
import socket
from pathlib import Path

import pytest

from reco.replica import Replica


def test_replicas_of_a_host_have_names_of_their_own(tmp_path: Path) -> None:
    one, other = Replica("server", tmp_path), Replica("server", tmp_path)
    user = os.getuid()
    assert one.name == f"server-{socket.gethostname()}-{user}-0"
    assert other.name == f"server-{socket.gethostname()}-{user}-1"
    one.release()
    other.release()


def test_who_comes_next_gets_the_name_that_became_free(tmp_path: Path) -> None:
    one, other = Replica("server", tmp_path), Replica("server", tmp_path)
    name = one.name
    one.release()
    successor = Replica("server", tmp_path)
    assert successor.name == name
    successor.release()
    other.release()


def test_another_kind_counts_for_itself(tmp_path: Path) -> None:
    one, other = Replica("server-a", tmp_path), Replica("server-b", tmp_path)
    assert other.name.endswith("-0")
    one.release()
    other.release()


def test_another_user_opens_no_lock_of_this_one_and_has_names_of_his_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Replica("server", tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    other = Replica("server", tmp_path)
    assert other.name != one.name
    assert len(list(tmp_path.iterdir())) == 2
    one.release()
    other.release()
