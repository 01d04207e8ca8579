"""Pictures in requests. A declaration names one as ``picture:FILE``; what is sent carries the picture itself."""

from __future__ import annotations

import base64
from typing import Any

from pyharness import paths

SCHEME = "picture:"
FOLDER = paths.PLAYBOOKS / "pictures"


def embedded(value: Any) -> Any:
    """Return a request's body with every picture in the place of its name, as a data URL (RFC 2397).

    Args:
        value: the body, or a part of it.

    Raises:
        ValueError: there is no picture of that name in playbooks/pictures.
    """
    if isinstance(value, dict):
        return {key: embedded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [embedded(part) for part in value]
    if not isinstance(value, str) or not value.startswith(SCHEME):
        return value
    known = {path.name: path for path in FOLDER.glob("*.png")}
    name = value.removeprefix(SCHEME)
    if name not in known:
        raise ValueError(f"there is no picture {name} in playbooks/pictures (there is: {', '.join(sorted(known))})")
    return "data:image/png;base64," + base64.b64encode(known[name].read_bytes()).decode()
