import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from shared.arm_statistics import CorruptRow
from shared.events import Outcome, encode
from shared.ports import Record, Source
from tests.scenario import ARMS, CONFIG, NESTED, RULES, WINDOW, D, outcome, record
from trainer.apply import MAX_ABS_X, DedupeWindow, PartitionFold, Rules

HERE = RULES.partitions[1]
NEIGHBOURS = [arm for arm in ARMS if RULES.partitions[arm] == HERE]
STRANGER = next(arm for arm in ARMS if RULES.partitions[arm] != HERE)


def fold_of(*values: bytes | Outcome | None) -> tuple[PartitionFold, list[str]]:
    fold = PartitionFold(HERE, RULES)
    folded = fold.fold([record(i, value, HERE) for i, value in enumerate(values)])
    return fold, [reason for _, reason in folded.dead]


def test_an_outcome_adds_to_its_arm_and_moves_the_offset() -> None:
    fold = PartitionFold(HERE, RULES)
    folded = fold.fold([record(0, outcome(0, 1, reward=1.0, x=[1.0, 2.0, 3.0]))])
    assert (folded.changed, folded.applied, fold.next_offset) == ([1], 1, 1)
    assert fold.statistics.n.tolist() == [1]
    assert fold.statistics.clicks.tolist() == [1]
    assert fold.statistics.b.tolist() == [[1.0, 2.0, 3.0]]
    assert fold.statistics.xx.tolist() == [[1.0, 2.0, 3.0, 4.0, 6.0, 9.0]]
    assert fold.statistics.last_offset.tolist() == [0]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "undecodable"),
        (b"", "undecodable"),
        (b"{", "undecodable"),
        (b"\xff\xfe", "undecodable"),
        (b"[]", "undecodable"),
        (b'{"outcome_id": 1}', "undecodable"),
        pytest.param(NESTED, "undecodable", id="nested"),
        (encode(outcome(0, 1)).replace(b'"reward":0.0', b'"reward":NaN'), "undecodable"),
        (outcome(0, 999), "unknown product 999"),
        (outcome(0, -1), "unknown product -1"),
        (outcome(0, STRANGER), "wrong partition"),
        (outcome(0, 1, encoder_id="other"), "wrong encoder: other"),
        (outcome(0, 1, x=[1.0]), f"x has 1 numbers, not {D}"),
        (outcome(0, 1, x=[1.0] * 4), f"x has 4 numbers, not {D}"),
        (outcome(0, 1, reward=1.5), "reward 1.5 is not in [0, 1]"),
        (outcome(0, 1, reward=-0.1), "reward -0.1 is not in [0, 1]"),
        (outcome(0, 1, x=[0.0, 0.0, 2 * MAX_ABS_X]), "not finite or beyond"),
        (outcome(0, 1, x=[0.0, -1e300, 0.0]), "not finite or beyond"),
        (encode(outcome(0, 1, x=[7.0, 7.0, 7.0])).replace(b"7.0,", b"1e999,", 1), ""),
    ],
)
def test_a_bad_record_is_dead_with_a_reason_and_the_offset_goes_on(
    value: bytes | Outcome | None, reason: str
) -> None:
    fold, reasons = fold_of(value, outcome(1, 1))
    assert len(reasons) == 1
    assert reason in reasons[0]
    assert fold.next_offset == 2
    assert fold.statistics.n.tolist() == [1]


class Nobody:
    """Knows of no newcomers."""

    def catch_up(self) -> None:
        pass

    def first_offset(self, product_id: int, log: Source | None) -> None:
        return None


def test_a_batch_that_asks_for_newcomers_may_hold_what_is_undecodable() -> None:
    fold = PartitionFold(HERE, structs.replace(RULES, newcomers=Nobody()))
    values: list[bytes | Outcome] = [outcome(0, 999), b"{", NESTED, b"\xff"]
    folded = fold.fold([record(i, value, HERE) for i, value in enumerate(values)])
    assert len(folded.dead) == len(values)


def test_dead_records_come_in_offset_order_whatever_is_wrong_with_them() -> None:
    fold = PartitionFold(HERE, RULES)
    values: list[bytes | Outcome] = [outcome(0, 1, x=[2e3, 0.0, 0.0]), b"{"]
    values += [outcome(2, 1), outcome(3, 999)]
    folded = fold.fold([record(i, value, HERE) for i, value in enumerate(values)])
    assert [bad.offset for bad, _ in folded.dead] == [0, 1, 3]


def test_the_same_outcome_counts_once_within_the_window() -> None:
    fold, _ = fold_of(outcome(0, 1), outcome(0, 1), outcome(1, 1), outcome(0, 1))
    assert fold.statistics.n.tolist() == [2]


def test_a_rejected_record_does_not_make_the_next_one_a_duplicate() -> None:
    fold, reasons = fold_of(outcome(0, 1, reward=9.0), outcome(0, 1))
    assert len(reasons) == 1
    assert fold.statistics.n.tolist() == [1]


@pytest.mark.parametrize(("distance", "first"), [(WINDOW, False), (WINDOW + 1, True)])
def test_an_id_is_forgotten_beyond_exactly_w_offsets(distance: int, first: bool) -> None:
    window = DedupeWindow(WINDOW)
    window.first_seen(["d-0:1"], np.array([0]))
    assert window.first_seen(["d-0:1"], np.array([distance])).tolist() == [first]


def test_a_duplicate_renews_the_memory_of_its_id() -> None:
    window = DedupeWindow(WINDOW)
    for offset in (0, WINDOW, 2 * WINDOW):
        last = window.first_seen(["d-0:1"], np.array([offset]))
    assert last.tolist() == [False]


def test_the_window_does_not_grow_without_bound() -> None:
    window = DedupeWindow(10)
    for number in range(5_000):
        window.first_seen([f"d-{number}:1"], np.array([number]))
    assert len(window._last_seen) <= 2 * 10 + 1_001


streams = st.lists(
    st.tuples(
        st.sampled_from(["good", "good", "good", "repeat", "bad"]),
        st.sampled_from(NEIGHBOURS),
        st.booleans(),
    ),
    max_size=80,
)


def records_of(stream: list[tuple[str, int, bool]]) -> list[Record]:
    result: list[Record] = []
    for offset, (kind, arm, clicked) in enumerate(stream):
        number = max(0, offset - 7) if kind == "repeat" else offset
        good = outcome(number, arm, reward=float(clicked))
        result.append(record(offset, b"?" if kind == "bad" else good, HERE))
    return result


@given(stream=streams, cuts=st.lists(st.integers(0, 80), max_size=6))
def test_however_the_stream_is_cut_the_state_is_the_same_to_the_bit(
    stream: list[tuple[str, int, bool]], cuts: list[int]
) -> None:
    records = records_of(stream)
    whole, pieces = PartitionFold(HERE, RULES), PartitionFold(HERE, RULES)
    folded = whole.fold(records)
    edges = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    parts = [pieces.fold(records[a:b]) for a, b in itertools.pairwise(edges)]
    assert pieces.rows(pieces.statistics.arms) == whole.rows(whole.statistics.arms)
    assert sum(part.applied for part in parts) == folded.applied
    assert sum(part.duplicates for part in parts) == folded.duplicates
    assert sum(len(part.dead) for part in parts) == len(folded.dead)
    assert folded.applied + folded.duplicates + len(folded.dead) == len(records)


@given(stream=streams, at=st.integers(0, 80))
def test_a_state_read_back_from_the_store_goes_on_as_if_it_had_never_stopped(
    stream: list[tuple[str, int, bool]], at: int
) -> None:
    records = records_of(stream)
    at = min(at, len(records))
    whole, before = PartitionFold(HERE, RULES), PartitionFold(HERE, RULES)
    whole.fold(records)
    before.fold(records[:at])
    stored = before.rows(before.statistics.arms)
    after = PartitionFold(HERE, RULES, before.next_offset, stored)
    read_back = after.fold(records[after.read_offset : at])
    assert (read_back.applied, read_back.duplicates, read_back.dead) == (0, 0, [])
    after.fold(records[at:])
    assert after.rows(whole.statistics.arms) == whole.rows(whole.statistics.arms)


def test_what_is_read_back_and_goes_on_in_one_batch_counts_only_what_is_new() -> None:
    fold = PartitionFold(HERE, RULES, next_offset=2)
    assert fold.read_offset == 0
    batch = [record(i, outcome(number, 1), HERE) for i, number in enumerate([0, 1, 0, 2])]
    folded = fold.fold(batch)
    assert (folded.applied, folded.duplicates, fold.next_offset) == (1, 1, 4)


def test_a_damaged_row_is_refused() -> None:
    fold, _ = fold_of(outcome(0, 1))
    [row] = fold.rows([1]).values()
    with pytest.raises(CorruptRow, match="arm 1"):
        PartitionFold(HERE, RULES, 1, {1: row[:-1] + bytes([row[-1] ^ 1])})


def test_rules_know_where_every_arm_belongs() -> None:
    rules = Rules.of(CONFIG, [1, 192], 12)
    assert set(rules.partitions) == {1, 192}
    assert all(0 <= partition < 12 for partition in rules.partitions.values())
    assert msgspec.json.decode(msgspec.json.encode(rules), type=Rules) == rules
