#!/usr/bin/python
"""Put a node into quarantine, release it, or say whether it is in quarantine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: quarantine
short_description: Put a node that cannot be cleaned into quarantine, release it, or ask
options:
  path:
    description: The file that is the mark, C(quarantine.json) in the state directory of the node.
    type: path
    required: true
  state:
    description: C(present) puts the node into quarantine, C(absent) releases it, C(read) only asks.
    type: str
    choices: [present, absent, read]
    default: read
  node:
    description: The node's name in the inventory. Needed for C(present).
    type: str
  reason:
    description: Why. Needed for C(present). A node that is in quarantine keeps its first reason.
    type: str
  run:
    description: The run that found it so. Needed for C(present).
    type: str
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Ask
  disagg.e2e.quarantine: {path: /var/lib/disagg/quarantine.json}
  register: quarantine
"""

RETURN = r"""
quarantine:
  description: node, reason, run and since (UTC) as they are after the module; null when the node is not in quarantine.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.module_utils import quarantine


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent", "read"], "default": "read"},
            "node": {"type": "str"},
            "reason": {"type": "str"},
            "run": {"type": "str"},
        },
        required_if=[("state", "present", ["node", "reason", "run"])],
        supports_check_mode=True,
    )
    asked = module.params
    path, state = asked["path"], asked["state"]
    present = quarantine.read(path)
    changes = (state == "present") is (present is None) if state != "read" else False
    if not changes or module.check_mode:
        module.exit_json(changed=changes, quarantine=present)
    entry = None
    try:
        if state == "present":
            entry = quarantine.write(path, asked["node"], asked["reason"], asked["run"])
        else:
            quarantine.remove(path)
    except OSError as error:
        module.fail_json(msg=f"{path} cannot be changed: {error}; run as a user who may")
    module.exit_json(changed=True, quarantine=entry)


if __name__ == "__main__":
    main()
