"""The Kafka ecosystem's partitioner: murmur2 of the key (librdkafka calls it `murmur2_random`)."""

from typing import Final

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Appleby's MurmurHash2 of 32 bits, with the seed that Kafka's Java client uses."""
    h = _SEED ^ len(data)
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _WORD
        k = (k ^ (k >> 24)) * _M & _WORD
        h = (h * _M & _WORD) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _WORD
    h = (h ^ (h >> 13)) * _M & _WORD
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a record with this key: the hash, made positive, modulo the count."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
