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

from pyharness import redaction
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
        goes_on: whether the run that lies there is gone on with. Otherwise it is put aside.
        kept: of how many runs before this one at least the results are kept.

    Raises:
        UsageError: the folder cannot be written.
    """

    def __init__(self, base: Path, test_case: str, *, goes_on: bool = False, kept: int = 0) -> None:
        self.root = base / test_case
        self.logs = self.root / "logs"
        self._previous = base / "previous" / test_case
        try:
            if not goes_on:
                self._put_previous_aside(max(kept, _KEPT_RUNS))
            self.logs.mkdir(parents=True, exist_ok=True)
            (self.root / "whls").mkdir(exist_ok=True)
        except OSError as error:
            reason = f"{error.strerror}: {error.filename}"
            raise UsageError(f"--results {base}: cannot be written ({reason}); name a folder of your own") from error

    def _put_previous_aside(self, kept: int) -> None:
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
        for old in sorted(self._previous.iterdir())[:-kept]:
            shutil.rmtree(old, ignore_errors=True)

    def trial_logs(self, slug: str) -> Path:
        """Return the folder of one trial's logs, made if need be."""
        folder = self.logs / slug
        folder.mkdir(exist_ok=True)
        return folder

    def begin(self, report: Report) -> None:
        """Write the report of a run that begins.

        Raises:
            UsageError: it cannot be written.
        """
        try:
            self.write(report)
        except OSError as error:
            reason = f"{error.strerror}: {error.filename or self.root}"
            raise UsageError(f"--results: cannot be written ({reason}); make room, or name another folder") from error

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
        """Unpack what the nodes sent home; see `unpack`."""
        unpack(self.logs)


def unpack(logs: Path) -> None:
    """Unpack the archives of logs in a folder there, without the secrets in them, and remove them.

    Only regular files are taken, and none of them outside of the folder: an archive comes from a node. (The filters of
    `tarfile` do as much, but Debian 12's Python is too old for them.)

    Args:
        logs: the folder.

    Raises:
        OSError: there is no room for them. The archives are removed all the same: they hold whatever a service said.
        ValueError: an archive holds a path that leads outside.
    """
    for archive in logs.glob("*.tar.gz"):
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is not None:
                        target = _inside(logs, member.name)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with content, target.open("wb") as file:
                            redaction.copy(content, file)
        finally:
            archive.unlink()


def _inside(logs: Path, name: str) -> Path:
    root = logs.resolve()
    target = (root / name).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"a log archive holds {name!r}, which leads outside of {logs}")
    return target


def write_atomically(path: Path, text: str) -> None:
    """Write a file without its secrets, so that a reader sees the old or the new one, never half of it.

    Args:
        path: the file. One that ends in .json stays JSON, and one in .xml or .html stays markup.
        text: what it is to hold.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    markup = path.suffix in (".xml", ".html")
    clean = redaction.redact_json(text) if path.suffix == ".json" else redaction.redact(text, markup=markup)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A path or an argument may hold bytes that are no UTF-8.
        temporary.write_text(clean, encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _shell(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def _junit(report: Report) -> str:
    """Return the report as JUnit XML."""
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(junit_suite(report), encoding="unicode") + "\n"


def junit_suite(report: Report) -> ET.Element:
    """Return the report as a suite of JUnit XML: a test case per check, as GitHub, GitLab and Jenkins show it.

    Each has a name of its own and at most one outcome: GitLab takes the first of several test cases of one name, and
    the readers do not agree on what several failures of one test case are.
    """
    suite = ET.Element("testsuite", name=_written(report.test_case), timestamp=report.started_at.rstrip("Z"))
    suite.set("time", f"{report.timing.total:.3f}")
    cases: dict[tuple[str, str], ET.Element] = {}

    def case(owner: str, check: str, seconds: float) -> ET.Element:
        key = (_written(owner), _written(check))
        if key not in cases:
            name = {"classname": f"{report.test_case}.{key[0]}", "name": key[1]}
            cases[key] = ET.SubElement(suite, "testcase", name, time=f"{seconds:.3f}")
        return cases[key]

    for owner, checks in [*((model.trial, model.checks) for model in report.models), ("run", report.checks)]:
        for check in checks:
            element = case(owner, check.id, check.seconds)
            if check.status == "skipped":
                ET.SubElement(element, "skipped")
    expected = {model.trial: model.expected for model in report.models if model.expected}
    for failure in report.failures:
        owner = failure.trial or "run"
        _junit_failure(case(owner, failure.check, 0.0), failure, expected.get(owner))
    suite.set("tests", str(len(cases)))
    for plural, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(plural, str(sum(1 for element in cases.values() if element.find(outcome) is not None)))
    return suite


def _junit_failure(case: ET.Element, failure: Failure, expected: Expected | None) -> None:
    """Add what went wrong; what is declared and expected is no failure for who counts them, but is shown."""
    clean = _written(f"{failure.evidence}\n{failure.hint}")
    known = next(iter(case), None)
    if known is not None and known.text:
        known.text += f"\n\n{failure.class_}: {clean}"
        return
    if known is not None:
        case.remove(known)
    if failure.known:
        ET.SubElement(case, "skipped", message=_written(failure.hint)).text = clean
        return
    if expected:
        ET.SubElement(case, "skipped", message=_written(f"expected: {expected.reason}")).text = clean
        return
    element = ET.SubElement(case, "failure" if failure.class_ == "product" else "error", type=failure.class_)
    element.set("message", _written(failure.evidence).partition("\n")[0][:300] or failure.class_)
    element.text = clean


def _written(text: str) -> str:
    """Leave out what XML 1.0 does not have and a log may hold: control characters but three, and two letters."""
    return "".join(letter for letter in text if letter in "\t\n\r" or " " <= letter not in "\ufffe\uffff")
