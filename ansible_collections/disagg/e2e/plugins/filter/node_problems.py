"""The filter disagg.e2e.node_problems: why a run cannot start on a node."""

from __future__ import annotations

DOCUMENTATION = r"""
name: node_problems
short_description: Say why a run cannot start on a node
description: Holds what role node has found out of a node against what the run needs. Returns all reasons at once.
options:
  _input:
    description: What role node publishes as node_result.
    type: dict
    required: true
  peers:
    description: The same of the run's other nodes, whose clocks have to agree.
    type: list
    elements: dict
    default: []
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Nothing is in the way
  ansible.builtin.assert:
    that: node_result | disagg.e2e.node_problems | length == 0
"""

RETURN = r"""
_value:
  description: The reasons, each in one line with its remedy.
  type: list
  elements: str
"""

from typing import Any, Callable

from ansible_collections.disagg.e2e.plugins.module_utils import preflight


def node_problems(facts: dict[str, Any], peers: list[dict[str, Any]] | None = None) -> list[str]:
    """Return why a run cannot start on a node, see module_utils/preflight.py."""
    return preflight.problems(facts, peers or [])


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"node_problems": node_problems}
