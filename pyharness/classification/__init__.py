"""Why a run failed: whose failure it is by rules with ids, the line of a log that shows it, and what came of what.

`explain` is asked once, when the logs are home and before the verdict is judged. `playbooks` says what a failed
playbook means. The rules are data (rules/*.yml); docs/failures.md says how to add one.
"""

from __future__ import annotations

from pyharness.classification.explaining import explain

__all__ = ["explain"]
