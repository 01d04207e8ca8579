"""Add settings to those that a Docker daemon has, without taking away what others put there."""

from __future__ import annotations

DOCUMENTATION = r"""
name: daemon_settings
short_description: Add settings to those of a Docker daemon
description:
  - Dictionaries are merged, lists are united (what is there keeps its place), anything else is replaced.
positional: _input, wanted
options:
  _input:
    description: The settings that are there.
    type: dict
    required: true
  wanted:
    description: The settings to add.
    type: dict
    required: true
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Add a registry
  ansible.builtin.set_fact:
    settings: "{{ there | disagg.e2e.daemon_settings({'insecure-registries': ['registry.example:5000']}) }}"
"""

RETURN = r"""
_value:
  description: All settings.
  type: dict
"""

from typing import Any, Mapping

from ansible.errors import AnsibleFilterError


def daemon_settings(there: object, wanted: object) -> dict[str, Any]:
    """Merge the settings of a daemon.

    Args:
        there: What /etc/docker/daemon.json holds.
        wanted: What is to be added.

    Returns:
        A new dictionary; neither argument is changed.

    Raises:
        AnsibleFilterError: One of them is no dictionary.
    """
    if not isinstance(there, Mapping) or not isinstance(wanted, Mapping):
        raise AnsibleFilterError("daemon_settings: two dictionaries are needed")
    merged = dict(there)
    for key, value in wanted.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = daemon_settings(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            merged[key] = old + [one for one in value if one not in old]
        else:
            merged[key] = value
    return merged


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"daemon_settings": daemon_settings}
