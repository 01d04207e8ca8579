"""Which leases a run needs: by the inventory, one file for each machine or logical node, in one order for everybody."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness.errors import UsageError
from pyharness.from_collection import lease

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyharness.verification.node_probe import Nodes


@dataclass(frozen=True)
class Lease:
    """One lease file that a run needs: on which machine, and for which nodes of the inventory."""

    machine: str
    file: str
    name: str
    nodes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Inventory:
    """The inventory's variables about leases.

    Attributes:
        nodes: the inventory, which has been read.
        extra_vars: variables that win over the inventory's.
    """

    nodes: Nodes
    extra_vars: Mapping[str, Any]

    def _variable(self, node: str, name: str) -> Any:
        value = self.extra_vars.get(name, self.nodes.variable(node, name))
        if isinstance(value, str) and "{{" in value:
            raise UsageError(f"{node}: {name} is a template, and leases need it before Ansible runs; write it out")
        return value

    def wanted(self, names: Sequence[str]) -> dict[str, list[Lease]]:
        """Return the leases of nodes by machine, both in the order in which everybody takes them.

        Args:
            names: the nodes.

        Raises:
            UsageError: a variable is a template.
        """
        found: dict[tuple[str, str], Lease] = {}
        for node in names:
            connection = self._variable(node, "ansible_connection") or "ssh"
            # ansible_host may be a template in an inventory that names its leases, and is not needed there.
            name = self._variable(node, "disagg_lease_name")
            if connection == "local":
                machine = "local"
                name = name or self._variable(node, "ansible_host") or node
            else:
                address, port = self._variable(node, "ansible_host") or node, self._variable(node, "ansible_port")
                machine, name = f"{connection} {address} {port or ''}", name or "host"
            file = lease.path(str(self._variable(node, "disagg_lease_dir") or lease.DEFAULT_DIR), str(name))
            found.setdefault((machine, file), Lease(machine, file, str(name))).nodes.append(node)
        result: dict[str, list[Lease]] = {}
        for key in sorted(found):
            result.setdefault(key[0], []).append(found[key])
        return result

    def ttl(self, names: Sequence[str]) -> float:
        """Return how long a lease outlives its last renewal, in seconds: the shortest that the nodes name."""
        return min(self._seconds(node, "disagg_lease_ttl") for node in names)

    def _seconds(self, node: str, name: str) -> float:
        value = self._variable(node, name)
        try:
            seconds = lease.DEFAULT_TTL if value is None else float(value)
        except (TypeError, ValueError):
            seconds = 0.0
        if not 0 < seconds < math.inf:
            raise UsageError(f"{node}: {name} is {value!r}, and has to be a number of seconds above 0")
        return seconds
