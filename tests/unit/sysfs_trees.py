"""Lay out recorded trees of /sys and /dev, written as one text file each (tests/unit/data/rdma/*.tree).

Standard library only: the double of modprobe in Molecule's scenarios lays out the same trees on a host.
"""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parent / "data" / "rdma"


def lay(text: str, root: Path) -> None:
    """Write a tree.

    Args:
        text: lines of `path = content` (a file), `path -> target` (a link), `path /` (a directory) and `# comment`.
        root: where to lay it out. Paths begin with sys/ or dev/.
    """
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, sign, value = line.partition(" ")[0], *line.partition(" ")[2].partition(" ")[::2]
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if sign == "=":
            path.write_text(f"{value}\n", encoding="utf-8")
        elif sign == "->":
            path.unlink(missing_ok=True)
            path.symlink_to(value)
        elif sign == "/":
            path.mkdir(exist_ok=True)
        else:
            raise ValueError(f"not a line of a tree: {line!r}")


def recorded(name: str, root: Path) -> Path:
    """Lay out a recorded tree below `root` and return `root`."""
    lay((DATA / f"{name}.tree").read_text(encoding="utf-8"), root)
    return root
