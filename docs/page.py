"""Takes the README's pictures of the live page: wide, narrow, and in the dark.

Example: reco demo --hold --http-port 8080, and once it has its verdict, from the project's root:
.venv/bin/python -m docs.page http://127.0.0.1:8080 docs
"""

import io
import sys
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image

from tests.e2e.browser import browser

VIEWS: Final = {
    "page-wide.png": (1440, 900, False),
    "page-narrow.png": (390, 844, False),
    "page-dark.png": (1440, 900, True),
}
LISTED: Final = 7


def main() -> None:
    """Address and folder → three pictures of the whole page."""
    address, folder = sys.argv[1:]
    for name, (width, height, dark) in VIEWS.items():
        with (
            tempfile.TemporaryDirectory() as profile,
            browser(Path(profile), width, height, dark=dark) as context,
        ):
            page = context.new_page()
            page.goto(address)
            page.locator("#list > li").nth(LISTED - 1).wait_for()
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
            # 128 colours are plenty for what is drawn here, at a quarter of the size.
            picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
                Path(folder) / name, optimize=True
            )


if __name__ == "__main__":
    main()
