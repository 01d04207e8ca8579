"""The filter disagg.e2e.apt_problem: what was in the way of an installation, in one line with its remedy."""

from __future__ import annotations

DOCUMENTATION = r"""
name: apt_problem
short_description: Say in one line why apt failed, and what to do
description: >-
  Tells a lock that another program holds, an archive that cannot be reached, a package that nobody has and a full disk
  apart. Anything else is told in apt's own words.
options:
  _input:
    description: The result of C(ansible.builtin.apt).
    type: dict
    required: true
  packages:
    description: What was to be installed.
    type: list
    elements: str
    required: true
  lock_timeout:
    description: How long it waited for a lock, in seconds.
    type: int
    required: true
author: Disagg E2E maintainers
"""

EXAMPLES = r"""
- name: Say what was in the way
  ansible.builtin.fail:
    msg: "{{ ansible_failed_result | disagg.e2e.apt_problem(['libnuma1'], 120) }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
"""

import re
from typing import Any, Callable

_LOCKED = re.compile(r"lock (?:apt|directory)|get lock|dpkg frontend lock")
_HOLDER = re.compile(r"held by process (\d+) \(([^)]*)\)")
_MAX_WORDS = 300
# What else apt says, and what to do about it: the first that matches.
_OTHERS = (
    (
        re.compile(r"No package matching '[^']*' is available|Unable to locate package [^\n]*"),
        "see whether the node's package sources have it: apt-cache policy",
    ),
    (
        re.compile(r"No space left on device|enough free space in[^\n]*"),
        "free some: apt-get clean; df -h /var",
    ),
    (
        re.compile(r"Failed to update apt cache[^\n]*|Failed to fetch[^\n]*|Temporary failure resolving[^\n]*"),
        "see whether the node reaches its package sources: apt-get update",
    ),
    (
        re.compile(r"dpkg was interrupted[^\n]*"),
        "an earlier installation was cut short; finish it as root: dpkg --configure -a",
    ),
)


def apt_problem(result: dict[str, Any], packages: list[str], lock_timeout: int) -> str:
    """Say why apt failed.

    Args:
        result: what ansible.builtin.apt returned.
        packages: what was to be installed.
        lock_timeout: how long it waited for a lock, in seconds.
    """
    told = "\n".join(str(result.get(key) or "") for key in ("msg", "stderr", "stdout"))
    cannot = f"cannot install {', '.join(packages)}"
    if _LOCKED.search(told):
        # Not told to users without the right to see it, and not by every version of apt.
        found = _HOLDER.search(told)
        holder = f"process {found[1]} ({found[2]})" if found else "a process that apt does not name"
        return (
            f"{cannot}: {holder} has held apt's lock for more than {lock_timeout} s; wait until it ends (see it with: "
            f"ps -fp {found[1] if found else '$(fuser /var/lib/dpkg/lock-frontend)'}), or stop it if it hangs (often: "
            "systemctl stop unattended-upgrades), then run again"
        )
    for pattern, remedy in _OTHERS:
        other = pattern.search(told)
        if other:
            return f"{cannot}: {other[0].strip()}; {remedy}"
    return f"{cannot}: {' '.join(str(result.get('msg', '')).split())[:_MAX_WORDS]}"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return them by name."""
        return {"apt_problem": apt_problem}
