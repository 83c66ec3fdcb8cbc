"""A system of processes for the length of a test, and a browser for the tests of pages."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.e2e.browser import browser, require_browser, window
from tests.e2e.demos import Demo, demos
from tests.e2e.system import EmbeddedSystem, running


@pytest.fixture
def system(data_folder: Path, tmp_path: Path) -> Iterator[EmbeddedSystem]:
    with running(data_folder, tmp_path) as system:
        yield system


@pytest.fixture
def demo(data_folder: Path) -> Iterator[Demo]:
    with demos(data_folder) as start:
        yield start


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    require_browser()
    with browser() as launched:
        yield launched


@pytest.fixture
def wide(chromium: Browser) -> Iterator[BrowserContext]:
    with window(chromium, 1440, 900) as context:
        yield context
