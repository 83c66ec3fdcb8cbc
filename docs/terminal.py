"""Draws what a command printed as a picture of a terminal, for the README.

Example: make demo 2>&1 | .venv/bin/python docs/terminal.py "make demo" docs/demo.svg
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main() -> None:
    """Standard input → SVG, with the fonts of whoever looks at it."""
    title, path = sys.argv[1:]
    console = Console(record=True, width=88, file=io.StringIO())
    for line in sys.stdin:
        console.print(Text(line.rstrip("\n")))
    drawing = console.export_svg(title=title)
    drawing = re.sub(r"\s*@font-face \{.*?\}|<!--.*?-->", "", drawing, flags=re.DOTALL)
    Path(path).write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()
