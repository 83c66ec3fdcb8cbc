"""The folder of data that docs/adopting.md writes."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def write_folder(folder: Path) -> Path:
    """Run the page's program."""
    page = (ROOT / "docs" / "adopting.md").read_text(encoding="utf-8")
    [program] = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-c", program, folder], cwd=ROOT, check=True)
    return folder
