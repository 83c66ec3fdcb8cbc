"""A browser, for the tests of pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.e2e.browser import browser, require_browser, window


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    require_browser()
    with browser() as launched:
        yield launched


@pytest.fixture
def wide(chromium: Browser) -> Iterator[BrowserContext]:
    with window(chromium, 1440, 900) as context:
        yield context
