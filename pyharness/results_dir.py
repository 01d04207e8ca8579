"""The folder that a run leaves its results in, laid out by the contract that T-One reads.

From its first moment it holds an unfinished result, so a run that is killed can never leave the Pass of the run
before it behind. What was there before is moved to `previous/`, not lost.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from pyharness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.results import Expected, Failure, Report

_KEPT_RUNS = 5
_MARK = "report.json"


class ResultsDir:
    """RESULTS/<case>/.

    Args:
        base: the folder that holds one folder per test case.
        test_case: the test case's name.

    Raises:
        UsageError: the folder cannot be written.
    """

    def __init__(self, base: Path, test_case: str) -> None:
        self.root = base / test_case
        self.logs = self.root / "logs"
        self._previous = base / "previous" / test_case
        try:
            self._put_previous_aside()
            self.logs.mkdir(parents=True, exist_ok=True)
            (self.root / "whls").mkdir(exist_ok=True)
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            raise UsageError(f"--results {base}: cannot be written ({reason}); name a folder of your own") from error

    def _put_previous_aside(self) -> None:
        if not self.root.exists():
            return
        if not (self.root / _MARK).exists() and any(self.root.iterdir()):
            raise UsageError(
                f"--results: {self.root} holds files that no run of this harness left there; name another folder"
            )
        self._previous.mkdir(parents=True, exist_ok=True)
        try:
            name = str(json.loads((self.root / _MARK).read_text())["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            name = ""
        # What is read becomes a path whose old content is removed: nothing but a plain name will do.
        target = self._previous / (name if re.fullmatch(r"\w[\w.-]*", name) else "unknown")
        shutil.rmtree(target, ignore_errors=True)
        self.root.rename(target)
        for old in sorted(self._previous.iterdir())[:-_KEPT_RUNS]:
            shutil.rmtree(old, ignore_errors=True)

    def trial_logs(self, slug: str) -> Path:
        """Return the folder of one trial's logs, made if need be."""
        folder = self.logs / slug
        folder.mkdir(exist_ok=True)
        return folder

    def write(self, report: Report) -> None:
        """Write the report in all its forms, each file whole or not at all."""
        document = report.to_json()
        write_atomically(self.root / _MARK, json.dumps(document, indent=2) + "\n")
        status = "Pass" if report.verdict == "pass" else "Fail"
        result = {
            "test_case": report.test_case,
            "status": status,
            "timestamp": report.finished_at or report.started_at,
        }
        write_atomically(self.root / "test_results.json", json.dumps(result, indent=2) + "\n")
        write_atomically(self.root / "junit.xml", _junit(report))

    def write_environment(self, values: dict[str, str]) -> None:
        """Write .shrc: what the run was asked to do, as shell variables."""
        lines = [f"export {key}={_shell(value)}" for key, value in sorted(values.items())]
        write_atomically(self.root / ".shrc", "\n".join(lines) + "\n")

    def write_deployments(self, deployments: list[dict[str, Any]]) -> None:
        """Write deployment.json: what Ansible deployed, one entry per model."""
        document = {"schema_version": 1, "deployments": deployments}
        write_atomically(self.root / "deployment.json", json.dumps(document, indent=2) + "\n")

    def keep_wheel(self, wheel: Path) -> None:
        """Keep the wheel that was tested beside its result."""
        target = self.root / "whls" / wheel.name
        if not target.exists():
            try:
                os.link(wheel, target)  # it may be hundreds of megabytes
            except OSError:
                shutil.copyfile(wheel, target)

    def unpack_logs(self) -> None:
        """Unpack what the nodes sent home, and remove the archives.

        Only regular files are taken, and none of them outside of the logs folder: an archive comes from a node.
        (The filters of `tarfile` do as much, but Debian 12's Python is too old for them.)

        Raises:
            ValueError: an archive holds a path that leads outside.
        """
        for archive in self.logs.glob("*.tar.gz"):
            with tarfile.open(archive) as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is not None:
                        target = self._inside_logs(member.name)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with content, target.open("wb") as file:
                            shutil.copyfileobj(content, file)
            archive.unlink()

    def _inside_logs(self, name: str) -> Path:
        root = self.logs.resolve()
        target = (root / name).resolve()
        if not target.is_relative_to(root):
            raise ValueError(f"a log archive holds {name!r}, which leads outside of {self.logs}")
        return target


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _shell(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _junit(report: Report) -> str:
    """Return the report as JUnit XML."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(junit_suite(report), encoding="unicode") + "\n"


def junit_suite(report: Report) -> ET.Element:
    """Return the report as a suite of JUnit XML: a test case per check, as GitHub and GitLab show it."""
    suite = ET.Element("testsuite", name=report.test_case, timestamp=report.started_at.rstrip("Z"))
    suite.set("time", f"{report.timing.total:.3f}")
    entries = [(model.trial, check) for model in report.models for check in model.checks]
    entries += [("run", check) for check in report.checks]
    explained = set()
    expected = {model.trial: model.expected for model in report.models if model.expected}
    for owner, check in entries:
        case = ET.SubElement(suite, "testcase", classname=f"{report.test_case}.{owner}", name=check.id)
        case.set("time", f"{check.seconds:.3f}")
        if check.status == "skipped":
            ET.SubElement(case, "skipped")
        for index, failure in enumerate(report.failures):
            if failure.check == check.id and (failure.trial or "run") == owner:
                explained.add(index)
                _junit_failure(case, failure, expected.get(owner))
    for index, failure in enumerate(report.failures):
        if index not in explained:
            case = ET.SubElement(suite, "testcase", classname=report.test_case, name=failure.check, time="0")
            _junit_failure(case, failure, expected.get(failure.trial or ""))
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(1 for case in cases if case.find("failure") is not None)))
    suite.set("errors", str(sum(1 for case in cases if case.find("error") is not None)))
    suite.set("skipped", str(sum(1 for case in cases if case.find("skipped") is not None)))
    return suite


def _junit_failure(case: ET.Element, failure: Failure, expected: Expected | None) -> None:
    """Add what went wrong; what is declared and expected is no failure for who counts them, but is shown."""
    if expected:
        ET.SubElement(case, "skipped", message=f"expected: {expected.reason}").text = _written(failure.evidence)
        return
    element = ET.SubElement(case, "failure" if failure.class_ == "product" else "error", type=failure.class_)
    clean = _written(failure.evidence)
    element.set("message", clean.splitlines()[0][:300] if clean else failure.class_)
    element.text = f"{clean}\n{failure.hint}"


def _written(text: str) -> str:
    """Leave out what XML 1.0 does not have and a log may hold: control characters but three, and two letters."""
    return "".join(letter for letter in text if letter in "\t\n\r" or " " <= letter not in "\ufffe\uffff")
