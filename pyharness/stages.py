"""The stages of a pipeline, and the rule of the earliest one: what is marked for a stage runs in all later ones too.

The rule is that of Dynamo's testing guidelines. Test cases (python -m pyharness -m) and this project's own tests
(pytest -m) follow it alike, both by `with_later`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STAGES = ("pre_merge", "post_merge", "nightly", "weekly", "release")


def with_later(markers: Iterable[str]) -> set[str]:
    """Return markers with all stages that come after the earliest one among them.

    So `nightly` holds for what is marked pre_merge, and `nightly and not post_merge` for what begins with the night.

    Args:
        markers: what a test or a test case is marked with.
    """
    given = set(markers)
    first = next((number for number, stage in enumerate(STAGES) if stage in given), len(STAGES))
    return given | set(STAGES[first:])
