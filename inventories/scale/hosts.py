#!/usr/bin/env python3
"""The simulator's inventory with any number of logical nodes on this machine, as Ansible asks a script for it.

    DISAGG_E2E_PAIRS=4 python -m pyharness test_xpyd -i inventories/scale

DISAGG_E2E_PAIRS      as many prefill as decode nodes (default 1)
DISAGG_E2E_PREFILL    prefill nodes, where they are not as many
DISAGG_E2E_DECODE     decode nodes, where they are not as many
DISAGG_E2E_NET        the first two numbers of the addresses (default 127.1), so that two runs can be up side by side

Every address in 127.0.0.0/8 is this machine's own on Linux. Settings are those of inventories/simulator.
The protocol: Ansible's documentation, "Developing dynamic inventory", inventory scripts (--list with _meta).
"""

import json
import os
import re
import sys

_LARGEST = 1000
_PER_NETWORK = 250


def _count(name: str, default: int) -> int:
    text = os.environ.get(name, "") or str(default)
    if not re.fullmatch(r"[0-9]+", text) or not 1 <= int(text) <= _LARGEST:
        sys.exit(f"{name} is {text!r}: it has to be a number from 1 to {_LARGEST}")
    return int(text)


def _network() -> str:
    text = os.environ.get("DISAGG_E2E_NET", "") or "127.1"
    if not re.fullmatch(r"127\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])", text):
        sys.exit(f"DISAGG_E2E_NET is {text!r}: it has to be 127 and one more number, such as 127.1")
    return text


def inventory() -> dict:
    """Return groups and nodes: prefill nodes in the odd networks, decode nodes in the even ones."""
    network, pairs = _network(), _count("DISAGG_E2E_PAIRS", 1)
    groups: dict = {}
    known: dict = {}
    for offset, kind in enumerate(("prefill", "decode"), start=1):
        names = [f"{kind}{number}" for number in range(1, _count(f"DISAGG_E2E_{kind.upper()}", pairs) + 1)]
        groups[f"{kind}_nodes"] = {"hosts": names}
        for place, name in enumerate(names):
            third, fourth = offset + 2 * (place // _PER_NETWORK), place % _PER_NETWORK + 1
            known[name] = {"ansible_host": f"{network}.{third}.{fourth}"}
    return {**groups, "_meta": {"hostvars": known}}


if __name__ == "__main__":
    json.dump({} if "--host" in sys.argv else inventory(), sys.stdout)
