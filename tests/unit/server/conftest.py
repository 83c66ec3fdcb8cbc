"""Servers on fakes, which a test may make as many of as it needs."""

from collections.abc import Iterator
from typing import Any

import pytest

from shared.catalogue import DataSet
from tests.unit.server.api_bench import Bench, MakeBench


@pytest.fixture
def make(data: DataSet) -> Iterator[MakeBench]:
    made: list[Bench] = []

    def make(*arguments: Any, **options: Any) -> Bench:
        made.append(Bench(data, *arguments, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make: MakeBench) -> Bench:
    return make()
