"""What no client of ours does, and no broker on a good day: librdkafka's mock cluster does it."""

import ctypes
from ctypes import c_int, c_int16, c_size_t, c_void_p
from typing import Final

from infra.embedded import EmbeddedBroker

PRODUCE: Final = 0
OFFSET_FETCH: Final = 9
INIT_PRODUCER_ID: Final = 22
"""Kinds of request."""


def refuse(broker: EmbeddedBroker, request: int, *errors: int) -> None:
    """The next requests of this kind are answered with these errors."""
    push = broker._library.rd_kafka_mock_push_request_errors_array
    push.restype, push.argtypes = None, [c_void_p, c_int16, c_size_t, ctypes.POINTER(c_int)]
    push(broker._cluster, request, len(errors), (c_int * len(errors))(*errors))
