"""The collection's Python that the harness uses too.

The collection is not installed as a package: Ansible finds it by path, and so does this module.
"""

from __future__ import annotations

import sys

from pyharness import paths

if str(paths.PROJECT) not in sys.path:
    sys.path.append(str(paths.PROJECT))

from ansible_collections.disagg.e2e.plugins.module_utils import (
    github_artifacts,
    lease,
    patient_http,
    preflight,
    text_limits,
    wheel_spec,
)

__all__ = ["github_artifacts", "lease", "patient_http", "preflight", "text_limits", "wheel_spec"]
