"""What unit tests build their subjects from: deployments, nodes that answer what they are told to, wheels."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pyharness import case, results
from pyharness.deployment import Deployment, Service
from pyharness.engines.sglang import SGLang
from pyharness.exercise import Exchange, not_asked
from pyharness.verification.base import Recorder, Trial

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyharness.verification.node_probe import Nodes

RUN = "20260101-000000-abcd"
# Two layers of grouped attention with one KV head of 64: 2 * 2 * 64 * 2 bytes = 512 bytes per token.
CONFIG = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "dtype": "bfloat16",
}
BYTES_PER_TOKEN = 512
PIDS = {"prefill": 101, "decode": 102, "router": 103}


def make_service(kind: str, **changes: Any) -> Service:
    """Return a service; prefill and router on node `one`, decode on node `two`."""
    address = "127.0.0.42" if kind == "decode" else "127.0.0.41"
    port = 8000 if kind == "router" else 30001
    values: dict[str, Any] = {
        "name": kind,
        "kind": kind,
        "node": "two" if kind == "decode" else "one",
        "address": address,
        "port": port,
        "url": f"http://{address}:{port}",
        "ready_url": f"http://{address}:{port}/health",
        "ready_timeout": 20.0,
        "hang_timeout": 2.0,
        "pid": PIDS[kind],
        "started_at": 1000.0,
        "ready_at": 1003.5,
        "command": ["python3"],
        "environment": {},
        "log": f"/var/log/{kind}.log",
        "run_dir": "/run/it",
    }
    return Service.model_validate({**values, **changes})


def make_deployment(**changes: Any) -> Deployment:
    """Return a deployment of one prefill, one decode and one router."""
    values: dict[str, Any] = {
        "schema_version": 1,
        "run_id": RUN,
        "test_case": "test_it",
        "engine": {"name": "sglang", "platform": "simulator", "runtime": "process", "environment": "/env"},
        "runtime": "process",
        "model": {"name": "org/model", "path": "/model", "revision": "r1", "config": CONFIG, "stand_in": None},
        "entry": "http://127.0.0.41:8000",
        "transport": {"declared": "rdma", "requested": "tcp"},
        "wheel": {
            "file": "/wheels/demo-1.0-py3-none-any.whl",
            "sha256": "0" * 64,
            "version": "1.0",
            "source": "file",
            "package": "demo",
            "directory": "/overlay",
        },
        "reference": {"method": "transformers", "answer": {"text": "hello world", "prompt_tokens": 13}},
        "nodes": ["one", "two"],
        "services": [make_service(kind).model_dump() for kind in ("prefill", "router", "decode")],
    }
    return Deployment.model_validate({**values, **changes})


class FakeNodes:
    """Nodes that answer what a test gives them.

    Args:
        answers: what `probe` gives, by node; several: one after the other, the last for ever.
        dead: names of services that have ended.
    """

    def __init__(self, *answers: dict[str, dict[str, Any]], dead: Iterable[str] = ()) -> None:
        self.answers = list(answers)
        self.dead = set(dead)
        self.asked: list[dict[str, Any]] = []

    def probe(self, services: Iterable[Service], **question: Any) -> dict[str, dict[str, Any]]:
        """Answer as `Nodes.probe` does."""
        self.asked.append({"services": list(services), **question})
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def ended(self, services: Iterable[Service]) -> list[Service]:
        """Answer as `Nodes.ended` does."""
        return [service for service in services if service.name in self.dead]

    def log_tail(self, service: Service) -> list[str]:
        """Answer as `Nodes.log_tail` does."""
        return [f"last words of {service.name}"]


def as_nodes(nodes: FakeNodes) -> Nodes:
    """Return it as what it stands for."""
    return cast("Nodes", nodes)


def make_trial(
    nodes: FakeNodes, deployment: Deployment | None = None, wheel: str | None = None, **changes: Any
) -> Trial:
    """Return what checks look at; nobody answers what it sends."""
    values: dict[str, Any] = {
        "case": case.load("test_1p1d_erdma"),
        "deployment": deployment or make_deployment(),
        "nodes": as_nodes(nodes),
        "engine": SGLang(),
        "recorder": Recorder("org/model", []),
        "transport": results.TransportUse(declared="rdma", requested="tcp"),
        "requested_wheel": wheel,
        "logs": Path("/nonexistent"),
        "send": nobody_answers,
    }
    return Trial(**{**values, **changes})


def nobody_answers(url: str, _body: dict[str, Any], _timeout: float) -> Exchange:
    """Stand in for `Trial.send`."""
    return not_asked(url)


def make_report(**changes: Any) -> results.Report:
    """Return a report of one model whose one check passed, not yet judged."""
    values: dict[str, Any] = {
        "test_case": "test_it",
        "run_id": RUN,
        "started_at": "2026-01-01T00:00:00Z",
        "inventory": "inventories/it",
        "engine": {"name": "sglang"},
        "transport": {"declared": "tcp"},
        "models": [{"name": "org/model", "checks": [make_check().model_dump()]}],
    }
    return results.Report.model_validate({**values, **changes})


def make_check(check: str = "answer_correct", status: results.Status = "pass") -> results.Check:
    """Return the result of a check."""
    return results.Check(id=check, status=status, evidence={"text": "hello"}, seconds=0.25)


def make_failure(**changes: Any) -> results.Failure:
    """Return a product failure of the model."""
    values = {"class": "product", "check": "answer_correct", "evidence": "wrong text", "hint": "look", **changes}
    return results.Failure.model_validate({"trial": "org/model", **values})


def write_wheel(folder: Path, files: dict[str, bytes], *, version: str = "1.0", name: str = "demo") -> Path:
    """Write a wheel with a right RECORD. Returns its path."""
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    tags = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    content = {**files, f"{information}/METADATA": metadata, f"{information}/WHEEL": tags}
    lines = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in content.items()]
    record = "\n".join([*lines, f"{information}/RECORD,,"]) + "\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in content.items():
            archive.writestr(entry, data)
        archive.writestr(f"{information}/RECORD", record)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
