"""A headless Chromium that talks to nobody but the page under test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

CHROMIUM: Final = os.environ.get("CHROMIUM") or shutil.which("chromium")
"""Where the browser is; None where there is none."""

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def require_browser() -> None:
    """Skip the test where there is no Chromium; where everything is to be tested, fail."""
    if CHROMIUM is None:
        missing = "no Chromium: install it (Debian: `apt-get install chromium`), or set CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a new profile."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield launched
        finally:
            launched.close()


@contextmanager
def window(
    launched: Browser, width: int, height: int, *, dark: bool = False
) -> Iterator[BrowserContext]:
    """A window of this size, that knows nothing of the others."""
    context = launched.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    try:
        yield context
    finally:
        context.close()
