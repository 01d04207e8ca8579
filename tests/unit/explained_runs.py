"""Runs to explain: reports with failures, and the logs that go with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pyharness import case as cases
from pyharness.classification import explain, rules
from tests.unit.builders import make_deployment, make_failure, make_report

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.case import AllowedLine
    from pyharness.results import Failure, Report

CASE = cases.load("test_1p1d_erdma")
TRIAL = "org__model"
FULL = "OSError: [Errno 28] No space left on device"


def died(service: str = "decode", node: str = "two", *tail: str, **changes: Any) -> Failure:
    log = f"/var/log/{service}.log"
    evidence = f"service {service} on {node} died: exit status 1; last lines of {log}:\n" + "\n".join(tail or ("bye",))
    values = {"check": "services_ready", "evidence": evidence, "rule": "service.died", **changes}
    return make_failure(**values)


def http(status: int = 500, check: str = "router_ready", **changes: Any) -> Failure:
    return make_failure(check=check, evidence=f"http://127.0.0.41:8000/generate: HTTP {status}: sorry", **changes)


def explained(
    tmp_path: Path, *failures: Failure, allowed: list[AllowedLine] | None = None, deployed: bool = True, **files: str
) -> Report:
    """Explain a run whose logs are given by service; `ansible` and `requests` are the other two."""
    names = {
        "ansible": "ansible/provision.log",
        "requests": f"{TRIAL}/curl_response.log",
        "kernel": "diagnosis/two/dmesg.txt",
    }
    for name, content in files.items():
        path = tmp_path / "logs" / names.get(name, f"{TRIAL}/{name}.log")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    if deployed:
        document = {"schema_version": 1, "deployments": [make_deployment().model_dump(mode="json")]}
        (tmp_path / "deployment.json").write_text(json.dumps(document))
    report = make_report(failures=[failure.model_dump(by_alias=True) for failure in failures])
    explain(report, tmp_path, CASE.model_copy(update={"allowed_log_lines": allowed or []}))
    for failure in report.failures:
        assert failure.rule, failure
        assert rules.load().knows(failure.rule), failure.rule
        if failure.line and failure.line.line:
            text = (tmp_path / failure.line.file).read_text().splitlines()[failure.line.line - 1]
            assert failure.line.text == text.strip()
    return report


def told(report: Report) -> list[tuple[str, str | None, str, bool]]:
    return [(entry.check, entry.rule, entry.class_, entry.consequence) for entry in report.failures]
