"""Servers of fakes, as many as a test needs, one on a real socket, and a feed of the live page."""

from collections.abc import Iterator
from typing import Any

import pytest

from server.http import HttpServer
from shared.catalogue import DataSet
from shared.events import Context
from tests.live_scenario import Feeding
from tests.unit.server.api_bench import Bench, MakeBench
from tests.unit.server.raw_http import PATIENT, QUICK, UNHURRIED, App, serving


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


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App) -> Iterator[HttpServer]:
    with serving(app, QUICK) as server:
        yield server


@pytest.fixture
def patient(app: App) -> Iterator[HttpServer]:
    """No deadline ends what should end for another reason."""
    with serving(app, PATIENT) as server:
        yield server


@pytest.fixture
def unhurried(app: App) -> Iterator[HttpServer]:
    """For who sends a request in time and then is slow."""
    with serving(app, UNHURRIED) as server:
        yield server


@pytest.fixture
def feeding(data: DataSet) -> Feeding:
    return Feeding(data)


@pytest.fixture
def context(data: DataSet) -> Context:
    return data.encoder.decode([0.5] * data.encoder.d)
