"""python -m pyharness."""

from __future__ import annotations

import sys

from pyharness.cli import main

sys.exit(main())
