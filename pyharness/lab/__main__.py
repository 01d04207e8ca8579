"""python -m pyharness.lab."""

from __future__ import annotations

import sys

from pyharness.lab.cli import main

sys.exit(main())
