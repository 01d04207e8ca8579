"""A host runs Mooncake's master and a client, which keeps an object in the segment that it gave the store."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.mooncake]

CLIENT, MASTER = 31002, 9003


def ask(host: Any, port: int, path: str, asked: dict[str, Any] | None = None) -> str:
    """Ask a server from its host; fails on anything but 200."""
    address = host.interface("eth0").addresses[0]
    posted = f"--json '{json.dumps(asked)}'" if asked is not None else ""
    text: str = host.check_output(f"curl --fail --silent --max-time 30 {posted} http://{address}:{port}{path}")
    return text


def test_what_is_put_is_got_and_the_master_knows_of_it(host: Any) -> None:
    objects = [{"key": "molecule", "seed": "molecule", "size": 65536}]
    assert json.loads(ask(host, CLIENT, "/put", {"objects": objects})) == {"codes": [0]}
    digest = hashlib.sha256(hashlib.shake_128(b"molecule").digest(65536)).hexdigest()
    got = json.loads(ask(host, CLIENT, "/get", {"keys": ["molecule", "nothing"]}))
    assert got == {"objects": [{"size": 65536, "sha256": digest}, None]}
    assert "molecule" in ask(host, MASTER, "/get_all_keys").split()


def test_its_segment_is_with_the_master(host: Any) -> None:
    segment = json.loads(ask(host, CLIENT, "/describe", {}))["segment"]
    assert ask(host, MASTER, "/get_all_segments").split() == [segment]
