"""python -m pyharness."""

from __future__ import annotations

import os
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
except BrokenPipeError:  # `… | head`: who reads has seen enough, and Python is not to try once more at its end
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 141  # as a shell tells it of a program that SIGPIPE ended

sys.exit(code)
