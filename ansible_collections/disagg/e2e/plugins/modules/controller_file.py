"""Documentation of the action disagg.e2e.controller_file, which runs on the controller only."""

from __future__ import annotations

DOCUMENTATION = r"""
module: controller_file
short_description: Write a document to a JSON file on the controller
description:
  - An action of the controller's own process. C(ansible.builtin.copy) would start three modules for it.
  - The file is whole or not there at any time; its directory is made if need be.
options:
  path:
    description: The file, on the controller.
    type: path
    required: true
  content:
    description: The document.
    type: dict
    required: true
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Write the deployment down
  disagg.e2e.controller_file:
    path: /tmp/deployment.json
    content: {run_id: manual}
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
"""
