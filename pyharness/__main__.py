"""python -m pyharness."""

from __future__ import annotations

import sys

try:
    from pyharness.cli import main

    code = main()
except ModuleNotFoundError as error:
    if (error.name or "").startswith("pyharness"):
        raise
    told = f"error: {sys.executable} does not have {error.name}; use the project's Python, .venv/bin/python"
    sys.stderr.write(f"{told} (make .venv/ready makes it)\n")
    code = 2

sys.exit(code)
