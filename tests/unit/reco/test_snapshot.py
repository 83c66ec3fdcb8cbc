"""Which snapshots `reco snapshot load` puts in the place of a state, and which it refuses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from infra.embedded import Addresses
from shared.ports import Position, State
from shared.redis_store import RedisStore
from shared.snapshots import Snapshot, load, save
from tests.unit.reco.command_line import MODEL, Reco

EVERY = range(12)

Spoil = Callable[[Position], Position]


@pytest.fixture
def store(addresses: Addresses) -> Iterator[RedisStore]:
    store = RedisStore(addresses.redis, MODEL)
    yield store
    store.close()


@pytest.fixture
def saved(here: None, reco: Reco, store: RedisStore, tmp_path: Path) -> Iterator[Path]:
    """What the store holds, in a file; it holds that again after the test."""
    path = tmp_path / "saved.snapshot"
    assert reco("snapshot", "save", "--out", path).code == 0
    kept = load(path).states
    yield path
    for partition, state in kept.items():
        store.replace(partition, state)


def spoiled(path: Path, spoil: Spoil, *partitions: int) -> Path:
    """The same snapshot with other metadata, and of these partitions only if any are named."""
    whole = load(path)
    states = {
        partition: State(spoil(state.position), state.rows)
        for partition, state in whole.states.items()
        if partition in (partitions or EVERY)
    }
    save(path, Snapshot(whole.model, states))
    return path


def of_config(**changes: object) -> Spoil:
    return lambda position: msgspec.structs.replace(
        position, config=msgspec.structs.replace(position.config, **changes)
    )


def of_log(**changes: object) -> Spoil:
    return lambda position: msgspec.structs.replace(
        position, source=msgspec.structs.replace(position.source, **changes)
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (of_config(d=9), "made with contexts of 9 numbers, not "),
        (of_config(encoder_id="new"), "made with the encoder new, not "),
        (of_config(gamma=0.5), "made with γ 0.5, not 1.0"),
        (of_config(format=2), "made with rows of format 2, not 1"),
    ],
)
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_snapshot_that_the_models_trainers_can_not_go_on_with_is_refused_with_force_too(
    reco: Reco, saved: Path, store: RedisStore, spoil: Spoil, said: str, force: tuple[str, ...]
) -> None:
    before = store.positions(EVERY)
    result = reco("snapshot", "load", spoiled(saved, spoil), *force)
    assert result.code == 2
    assert said in result.err
    assert "--force does not help; load it into another --model" in result.err
    assert len(result.err.splitlines()) == 1
    assert store.positions(EVERY) == before


def test_a_snapshot_of_other_partitions_is_held_against_those_that_stay(
    reco: Reco, saved: Path, store: RedisStore, addresses: Addresses
) -> None:
    beside = RedisStore(addresses.redis, "beside")
    [position] = store.positions([4])
    assert position is not None
    beside.write(4, None, position, {})
    try:
        path = spoiled(saved, of_config(encoder_id="new"), 3)
        result = reco("snapshot", "load", path, "--model", "beside", "--force")
        assert (result.code, beside.positions([3])) == (2, [None])
    finally:
        beside.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (of_log(cluster_id="elsewhere"), "(the cluster was elsewhere and is "),
        (of_log(topic="clicks"), "(the topic was clicks and is outcomes)"),
        (of_log(partitions=13), "(the partition count was 13 and is 12)"),
    ],
)
def test_a_snapshot_of_another_log_replaces_a_state_only_by_force(
    reco: Reco, saved: Path, store: RedisStore, spoil: Spoil, said: str
) -> None:
    before = store.positions(EVERY)
    path = spoiled(saved, spoil)
    result = reco("snapshot", "load", path)
    assert result.code == 2
    assert f"is of another log than the state of model {MODEL!r} {said}" in result.err
    assert "--force" in result.err
    assert len(result.err.splitlines()) == 1
    assert store.positions(EVERY) == before
    assert reco("snapshot", "load", path, "--force").code == 0
    [now] = store.positions([3])
    assert now is not None
    assert now.source == load(path).states[3].position.source


def test_a_snapshot_of_a_topic_from_before_it_was_made_again_is_refused(
    reco: Reco, saved: Path, store: RedisStore
) -> None:
    for partition, state in load(saved).states.items():
        store.replace(partition, State(of_log(topic_id="second")(state.position), state.rows))
    result = reco("snapshot", "load", spoiled(saved, of_log(topic_id="first")))
    assert result.code == 2
    assert "(the topic outcomes was deleted and made again)" in result.err
    # One that is from before topics had ids may be of either.
    assert reco("snapshot", "load", spoiled(saved, of_log(topic_id=""))).code == 0


def test_a_snapshot_of_another_model_replaces_a_state_only_by_force(
    reco: Reco, saved: Path, store: RedisStore
) -> None:
    before = store.positions(EVERY)
    save(saved, Snapshot("another", load(saved).states))
    result = reco("snapshot", "load", saved)
    assert result.code == 2
    assert f"the snapshot is of model 'another', and {MODEL!r} has a state of its own" in result.err
    assert "--force" in result.err
    assert store.positions(EVERY) == before
    assert reco("snapshot", "load", saved, "--force").code == 0
    assert store.positions(EVERY) != before


def test_a_corrupt_state_is_replaced_by_force_with_a_snapshot_that_has_its_partition(
    reco: Reco, saved: Path, store: RedisStore, addresses: Addresses
) -> None:
    whole = load(saved).states
    client = redis.Redis.from_url(addresses.redis)
    client.hdel(f"reco:{{{MODEL}:p3}}:state", "_src")
    client.close()
    result = reco("snapshot", "load", saved)
    assert result.code == 1
    assert "partition 3: " in result.err
    assert "(`reco snapshot load --force FILE`)" in result.err
    assert len(result.err.splitlines()) == 1
    result = reco("snapshot", "load", spoiled(saved, lambda position: position, 4), "--force")
    assert result.code == 2
    assert "partition 3 in the store is corrupt and the snapshot has no state of it" in result.err
    save(saved, Snapshot(MODEL, whole))
    assert reco("snapshot", "load", saved, "--force").code == 0
    [now] = store.positions([3])
    assert now is not None
    assert now.next_offset == whole[3].position.next_offset


@pytest.mark.parametrize("spoil", [of_config(encoder_id="new"), of_log(cluster_id="elsewhere")])
def test_where_there_is_no_state_nothing_is_lost_and_any_snapshot_is_loaded(
    reco: Reco, saved: Path, addresses: Addresses, spoil: Spoil, request: pytest.FixtureRequest
) -> None:
    name = f"new-{request.node.callspec.indices['spoil']}"
    path = spoiled(saved, spoil)
    assert reco("snapshot", "load", path, "--model", name).code == 0
    store = RedisStore(addresses.redis, name)
    assert all(store.positions(EVERY))
    store.close()
