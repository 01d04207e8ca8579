"""Documentation of the action disagg.e2e.wheel_file, which runs on the controller only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_file
short_description: Have the wheel that was asked for as a file, and know what it is
description:
  - An action of the controller, which does not need a connection to a node.
  - A file is taken as it is. A version is fetched once from the package index that pip is configured with.
options:
  source:
    description: Path of a wheel, or a version of O(package).
    type: str
    required: true
  package:
    description: Name of the distribution that a version is of.
    type: str
    required: true
  cache_dir:
    description: Directory that keeps what was fetched.
    type: path
    required: true
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Have a release
  disagg.e2e.wheel_file:
    source: 0.3.13.post1
    package: mooncake-transfer-engine-non-cuda
    cache_dir: /var/cache/disagg-e2e/wheels
"""

RETURN = r"""
file:
  description: The wheel.
  returned: success
  type: str
sha256:
  description: Its digest.
  returned: success
  type: str
version:
  description: The version in its metadata.
  returned: success
  type: str
source:
  description: C(file) or C(index).
  returned: success
  type: str
"""
