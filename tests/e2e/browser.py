"""A headless Chromium that talks to nobody but the page under test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import BrowserContext, sync_playwright

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


@contextmanager
def browser(
    profile: Path, width: int, height: int, *, dark: bool = False
) -> Iterator[BrowserContext]:
    """A browser with a window of this size and a profile of its own."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            args=list(_FLAGS),
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
        try:
            yield context
        finally:
            context.close()
