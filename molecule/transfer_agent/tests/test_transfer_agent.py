"""A host runs two agents, and one writes into the memory of the other."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.mooncake]

A, B = 31001, 31002
SIZE = 65536


def ask(host: Any, port: int, verb: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Have an agent do something; fails on anything but 200."""
    address = host.interface("eth0").addresses[0]
    command = f"curl --fail --silent --max-time 30 --json '{json.dumps(asked)}' http://{address}:{port}/{verb}"
    return dict(json.loads(host.check_output(command)))


def test_what_one_writes_lies_with_the_other(host: Any) -> None:
    peer = ask(host, B, "describe", {})
    ask(host, A, "fill", {"offset": 0, "size": SIZE, "seed": "molecule"})
    asked = {
        "direction": "write",
        "peer": peer["session"],
        "local": 0,
        "remote": peer["base"],
        "size": SIZE,
        "count": 1,
    }
    assert ask(host, A, "transfer", asked)["code"] == 0
    expected = hashlib.sha256(hashlib.shake_128(b"molecule").digest(SIZE)).hexdigest()
    assert ask(host, B, "hash", {"ranges": [[0, SIZE]]})["sha256"] == [expected]


def test_its_program_is_in_the_runs_directory_and_cannot_be_changed_from_inside(host: Any) -> None:
    name = "disagg-e2e-manual-transfer-agent-agent_a"
    mounts = json.loads(host.check_output(f"docker inspect {name}"))[0]["Mounts"]
    programs = [mount for mount in mounts if mount["Destination"].endswith("/programs")]
    assert [(mount["Source"], mount["RW"]) for mount in programs] == [
        ("/var/lib/runs/manual/transfer-agent/programs", False)
    ]
