"""What no client of ours does, and no broker on a good day: librdkafka's mock cluster does it."""

import ctypes
from collections.abc import Iterable
from ctypes import c_char_p, c_int, c_int16, c_int32, c_size_t, c_ssize_t, c_void_p
from typing import Final

from infra.embedded import EmbeddedBroker

PRODUCE: Final = 0
OFFSET_FETCH: Final = 9
INIT_PRODUCER_ID: Final = 22
"""Kinds of request."""

_TOPIC, _PARTITION, _HEADER = 1, 3, 9


def refuse(broker: EmbeddedBroker, request: int, *errors: int) -> None:
    """The next requests of this kind are answered with these errors."""
    push = broker._library.rd_kafka_mock_push_request_errors_array
    push.restype, push.argtypes = None, [c_void_p, c_int16, c_size_t, ctypes.POINTER(c_int)]
    push(broker._cluster, request, len(errors), (c_int * len(errors))(*errors))


def send_with_headers(broker: EmbeddedBroker, topic: str, names: Iterable[bytes]) -> None:
    """For each a record into partition 0, with a header whose name is these bytes."""
    library = broker._library
    library.rd_kafka_produceva.restype = c_void_p
    library.rd_kafka_produceva.argtypes = [c_void_p, ctypes.POINTER(_Argument), c_size_t]
    library.rd_kafka_flush.argtypes = [c_void_p, c_int]
    config, reason = library.rd_kafka_conf_new(), ctypes.create_string_buffer(512)
    library.rd_kafka_conf_set(config, b"bootstrap.servers", broker.address.encode(), None, 0)
    client = library.rd_kafka_new(0, config, reason, len(reason))
    for name in names:
        arguments = (_Argument * 3)(
            _Argument(_TOPIC, _Content(text=topic.encode())),
            _Argument(_PARTITION, _Content(number=0)),
            _Argument(_HEADER, _Content(header=_Header(name, b"x", 1))),
        )
        assert not library.rd_kafka_produceva(client, arguments, len(arguments))
    assert not library.rd_kafka_flush(client, 10_000)
    library.rd_kafka_destroy(client)


class _Header(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("value", c_char_p), ("size", c_ssize_t))


class _Content(ctypes.Union):
    _fields_ = (
        ("text", c_char_p),
        ("number", c_int32),
        ("header", _Header),
        ("room", ctypes.c_char * 64),
    )


class _Argument(ctypes.Structure):
    _fields_ = (("kind", c_int), ("content", _Content))
