"""The logs of a run: which service wrote each of them, on which host, and which of their lines count."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pyharness.case import TrialName
from pyharness.classification import scanning
from pyharness.classification.matching import Matcher, clean
from pyharness.deployment import Deployment
from pyharness.results import LogLine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pyharness.classification.rules import Place, Rules
    from pyharness.classification.scanning import Finding, Hit
    from pyharness.results import Report

REQUESTS = "curl_response.log"
# What the harness says of a service that is not well; the name of its log stands further on.
_SERVICE = re.compile(
    r"service (?P<service>\S+) on (?P<node>\S+) (?:\(pid \d+\) )?(?P<what>died|hung|late|has ended)\b"
)
_LAST_LINES = re.compile(r"last lines (?:of|in) \S*?(?P<file>[^/\s]+):$", re.MULTILINE)
# Bytes at a log's end in which its last line is looked for.
_TAIL = 64 * 1024


@dataclass(frozen=True)
class Log:
    """One log.

    Attributes:
        path: where it lies.
        file: the same, relative to the results folder.
        place: what kind it is.
        folder: name of the trial's folder, `ansible`, or whatever it lies in.
        service: who wrote it; None where that is not known.
        host: where; None where that is not known.
        findings: what rules know of it.
    """

    path: Path
    file: str
    place: Place
    folder: str
    service: str | None = None
    host: str | None = None
    findings: list[Finding] = field(default_factory=list)

    def shown(self, hit: Hit) -> LogLine:
        """Return a line of it as a report has it."""
        return LogLine(file=self.file, line=hit.line, host=self.host, text=_short(hit.text))


@dataclass(frozen=True)
class Subject:
    """A service that a failure is about."""

    service: str
    node: str
    what: str


@dataclass(frozen=True)
class _Writer:
    """Who writes a log, as the deployment has it."""

    service: str
    host: str
    started_at: float | None


def subject(evidence: str) -> Subject | None:
    """Return the service that a failure's evidence is about; None if it is about none."""
    found = _SERVICE.search(evidence.partition("\n")[0])
    return Subject(found["service"], found["node"], found["what"]) if found else None


def slug(trial: str | None) -> str | None:
    """Return the folder of a trial by the name that failures have it under; None for the run itself."""
    if trial is None:
        return None
    model, bracket, variant = trial.partition("[")
    name = TrialName(model.strip() or None, variant.rstrip("]") if bracket else None)
    return name.slug if str(name) == trial else trial


def read(report: Report, folder: Path, rules: Rules) -> list[Log]:
    """Search all logs of a run.

    Args:
        report: the run so far.
        folder: its results folder.
        rules: what for.
    """
    writers, ends = _writers(report, folder), _ends(report)
    begun, year = _epoch(report.started_at), datetime.fromisoformat(report.started_at).year
    matchers = {
        place: Matcher(rules.of(place), rules.harmless if place == "services" else ())
        for place in ("services", "kernel")
    }
    logs = []
    for path, place in _files(folder / "logs"):
        name = path.parent.name
        writer = writers.get((name, path.name))
        # The kernel's log goes back to when the node was started.
        since = begun if place == "kernel" else None
        window = scanning.Window(writer.started_at if writer else None, since, ends.get(name), year)
        findings = scanning.scan(path, matchers[place], window) if place in matchers else []
        host = writer.host if writer else (name if place == "kernel" else None)
        service = writer.service if writer else None
        logs.append(Log(path, str(path.relative_to(folder)), place, name, service, host, findings))
    return logs


def _files(logs: Path) -> Iterator[tuple[Path, Place]]:
    for path in sorted(logs.glob("*/**/*")):
        if path.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        if path.name == REQUESTS:
            yield path, "evidence"
        elif "dmesg" in path.name or "kernel" in path.name:
            yield path, "kernel"
        elif path.suffix == ".log":
            yield path, "ansible" if path.parent.name == "ansible" else "services"


def _writers(report: Report, folder: Path) -> dict[tuple[str, str], _Writer]:
    """Return by folder and file name who wrote it: as deployed, or as a failure tells of what did not come up."""
    result: dict[tuple[str, str], _Writer] = {}
    for failure in report.failures:
        about, file = subject(failure.evidence), _LAST_LINES.search(failure.evidence)
        if about and file:
            result[slug(failure.trial) or "", file["file"]] = _Writer(about.service, about.node, None)
    for deployment in _deployments(folder / "deployment.json"):
        name = TrialName(deployment.model.name if deployment.model else None, deployment.variant).slug
        for service in deployment.services:
            writer = _Writer(service.name, service.node, service.started_at)
            result[name, service.log.rpartition("/")[2]] = writer
    return result


def _deployments(path: Path) -> list[Deployment]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["deployments"]
        return [Deployment.model_validate(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return []  # nothing was deployed: then only failures know who wrote what


def _ends(report: Report) -> dict[str, float]:
    """Return by trial's folder when its services began to be taken down: with the next phase that is not its own."""
    result: dict[str, float] = {}
    own: set[str] = set()
    for phase in report.phases:
        name = slug(phase.trial) if phase.name in ("deploy", "verify", "exercise") else None
        # Times of a report are whole seconds, rounded down.
        begun = _epoch(phase.started_at) + 1
        for other in own - {name}:
            result.setdefault(other, begun)
        if name:
            own.add(name)
    return result


def _epoch(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def last_line(log: Log) -> LogLine | None:
    """Return the last line of a log that is not empty; None if it has none, or cannot be read."""
    try:
        with log.path.open("rb") as stream:
            ends = sum(block.count(b"\n") for block in iter(lambda: stream.read(_TAIL), b""))
            stream.seek(max(0, stream.tell() - _TAIL))
            tail = stream.read()
    except OSError:
        return None
    text = tail.rstrip()
    if not text:
        return None
    line = ends - tail.count(b"\n", len(text)) + 1
    return LogLine(file=log.file, line=line, host=log.host, text=_short(clean(text.rpartition(b"\n")[2])))


def find(log: Log, words: Iterable[str], *, last: bool = False) -> LogLine | None:
    """Return a line of a log that holds all of some texts; None if none does, or it cannot be read.

    Args:
        log: where to look.
        words: the texts, without colours.
        last: the last such line, not the first.
    """
    wanted, found = list(words), None
    try:
        with log.path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                line = clean(raw)
                if all(word in line for word in wanted):
                    found = LogLine(file=log.file, line=number, host=log.host, text=_short(line))
                    if not last:
                        break
    except OSError:
        pass
    return found


def _short(text: str) -> str:
    return text.strip()[:500]
