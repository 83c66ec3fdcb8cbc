"""The store that comes with LiveReco, for the adapters of Redis."""

from collections.abc import Iterator

import pytest

from infra.embedded import EmbeddedStore


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedStore]:
    server = EmbeddedStore()
    yield server
    server.close()
