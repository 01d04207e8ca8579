"""Lay out a recorded tree as this node's: its name is the argument."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, "/srv/double")
import sysfs_trees

sysfs_trees.lay(Path(f"/srv/double/{sys.argv[1]}.tree").read_text(), Path("/srv/node"))
