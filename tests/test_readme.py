"""The program in README.md prints what README.md says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_first_program_prints_what_is_shown() -> None:
    found = re.search(r"```python\n((?:.*\n)+?)```\n\n((?:    .*\n)+)", README.read_text())
    assert found is not None
    program, shown = found.groups()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.stdout) == ("", re.sub(r"(?m)^    ", "", shown))
