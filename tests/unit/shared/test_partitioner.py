import pytest

from shared.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # Known answers of Kafka's Java client (UtilsTest), as signed 32-bit numbers.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_it_hashes_as_the_java_client_does(key: bytes, hashed: int) -> None:
    assert murmur2(key) == hashed % 2**32


def test_a_partition_is_never_negative_and_always_the_same() -> None:
    found = [partition_of(b"%d" % number, 12) for number in range(1_000)]
    assert set(found) == set(range(12))
    assert found == [partition_of(b"%d" % number, 12) for number in range(1_000)]
    assert partition_of(b"", 7) in range(7)
