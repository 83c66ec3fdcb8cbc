"""Takes the README's pictures of the live page: wide, narrow, and in the dark.

Example: reco demo --hold --http-port 8080, and once it has its verdict, from the project's root:
.venv/bin/python -m docs.page http://127.0.0.1:8080 docs
"""

import io
import sys
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import BrowserContext

from tests.e2e.browser import browser, window

VIEWS: Final = {
    "page-wide.png": (1440, 900, False),
    "page-narrow.png": (390, 844, False),
    "page-dark.png": (1440, 900, True),
}
LISTED: Final = 9


def main() -> None:
    """Address and folder → three pictures of the whole page."""
    address, folder = sys.argv[1:]
    with browser() as launched:
        for name, (width, height, dark) in VIEWS.items():
            with window(launched, width, height, dark=dark) as context:
                picture = taken(context, address)
            # 128 colours are plenty for what is drawn here, at a quarter of the size.
            small = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
            small.save(Path(folder) / name, optimize=True)


def taken(context: BrowserContext, address: str) -> Image.Image:
    """The whole page, once visits are listed."""
    page = context.new_page()
    page.goto(address)
    page.locator("#list > li").nth(LISTED - 1).wait_for()
    return Image.open(io.BytesIO(page.screenshot(full_page=True)))


if __name__ == "__main__":
    main()
