"""The verb `gate`: say what came of a pull request's test, as a commit status, a comment and a job's summary.

Protocol: https://docs.github.com/rest/commits/statuses and https://docs.github.com/rest/issues/comments
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import requests

from pyharness import github, redaction
from pyharness.errors import UsageError
from pyharness.from_collection import github_artifacts, patient_http
from pyharness.results import EXIT_CODES, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT = "disagg-e2e"
_STATES = {"pass": "success", "fail": "failure", "error": "error"}  # GitHub's words
_DESCRIPTION = 140  # characters that GitHub takes
_FAILURES = 10
_PER_PAGE = 100
_TIMEOUT = (10, 60)


@dataclass
class Outcome:
    """What came of all test cases.

    Attributes:
        verdict: pass, fail or error: the worst.
        line: the same in one line.
        reports: of the test cases that left one.
    """

    verdict: str
    line: str
    reports: list[Report] = field(default_factory=list)


def read(results: Path) -> Outcome:
    """Read the results of a run. Whatever cannot be read is an error, never a pass."""
    reports, broken = [], []
    for path in sorted(results.glob("*/report.json")):
        try:
            reports.append(Report.model_validate(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError):
            broken.append(path.parent.name)
    verdicts = [*(report.verdict for report in reports), *("error" for _name in broken)] or ["error"]
    verdict = max(verdicts, key=lambda word: EXIT_CODES[word])
    told = [f"{report.test_case}: {report.told_verdict}" for report in reports]
    told += [f"{name}: its report cannot be read" for name in broken]
    return Outcome(verdict, ", ".join(told) or "the run left no result", reports)


def markdown(outcome: Outcome, sha: str, url: str) -> str:
    """Return the outcome for people. What came from the nodes stands in code blocks, where it can do nothing."""
    lines = [f"### {CONTEXT}: {outcome.verdict}", "", f"Commit {sha}, [log and results]({url})", ""]
    if not outcome.reports:
        return "\n".join([*lines, *github.block(outcome.line), ""])
    lines += ["| Test case | Verdict | Models passed | KV cache over | Seconds |", "| --- | --- | --- | --- | --- |"]
    for report in outcome.reports:
        passed = sum(1 for model in report.models if model.verdict == "pass")
        cells = [report.test_case, report.told_verdict, f"{passed} of {len(report.models)}"]
        cells += [report.transport.used or "not known", f"{report.timing.total:.0f}"]
        lines.append(f"| {' | '.join(github.plain(cell) for cell in cells)} |")
        if report.simulated:
            lines.append(f"| {github.plain(report.test_case)} | simulated engine: says nothing about a product | | | |")
    failures = [(report, failure) for report in outcome.reports for failure in report.failures]
    failures.sort(key=lambda entry: entry[1].known)
    for report, failure in failures[:_FAILURES]:
        about = f" ({github.plain(failure.trial)})" if failure.trial else ""
        known = "known, " if failure.known else ""
        lines += [
            "",
            f"**{github.plain(report.test_case)}**, {known}{failure.class_}: {github.plain(failure.check)}{about}",
            "",
        ]
        lines += github.block(f"{github.shortened(failure.evidence)}\n-> {failure.hint}")
    if len(failures) > _FAILURES:
        lines += ["", f"and {len(failures) - _FAILURES} more failures, in the results"]
    return "\n".join([*lines, ""])


class Poster:
    """Writes to one repository on GitHub.

    Args:
        repository: owner/name.
        token: has the permissions Commit statuses: write and, for a comment, Pull requests: write.
        api: the API's address.
    """

    def __init__(self, repository: str, token: str, api: str) -> None:
        self._repository, self._token, self._api = repository, token, api.rstrip("/")

    def status(self, sha: str, outcome: Outcome, url: str) -> None:
        """Set the commit's status. A status of the same context is replaced by GitHub.

        Raises:
            UsageError: GitHub does not take it.
        """
        body = {"state": _STATES[outcome.verdict], "context": CONTEXT, "target_url": url}
        self._send("POST", f"statuses/{sha}", {**body, "description": outcome.line[:_DESCRIPTION]}, "Commit statuses")

    def comment(self, number: int, text: str) -> None:
        """Write the comment of a pull request, or write it anew where there is one.

        Raises:
            UsageError: GitHub does not take it.
        """
        mark = f"<!-- {CONTEXT} -->"
        there = next((entry["id"] for entry in self._comments(number) if str(entry["body"]).startswith(mark)), None)
        method, path = ("POST", f"issues/{number}/comments") if there is None else ("PATCH", f"issues/comments/{there}")
        self._send(method, path, {"body": f"{mark}\n{text}"}, "Pull requests")

    def _comments(self, number: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in range(1, 31):
            url = f"{self._url(f'issues/{number}/comments')}?per_page={_PER_PAGE}&page={page}"
            try:
                entries = patient_http.ask(url, lambda answer: answer.json(), token=self._token)
            except (patient_http.Refused, patient_http.GaveUp) as error:
                raise UsageError(f"gate: comments of {self._repository}#{number}: {error}") from None
            found += entries
            if len(entries) < _PER_PAGE:
                break
        return found

    def _url(self, path: str) -> str:
        return f"{self._api}/repos/{self._repository}/{path}"

    def _send(self, method: str, path: str, body: dict[str, str], right: str) -> None:
        try:
            auth = patient_http.Bearer(self._token)
            answer = requests.request(
                method, self._url(path), json=body, auth=auth, timeout=_TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            raise UsageError(f"gate: {self._repository}: GitHub cannot be reached ({type(error).__name__})") from None
        if answer.status_code not in {200, 201}:
            raise UsageError(
                f"gate: {self._repository}: GitHub does not take {path.partition('/')[0]} (HTTP {answer.status_code}); "
                f"the token needs the permission {right}: write"
            )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"gate: {message}; see: python -m pyharness gate --help")


def main(arguments: Sequence[str]) -> int:
    """Run the verb.

    Args:
        arguments: what stands after `gate`.

    Returns:
        the exit code that belongs to the verdict: 0 pass, 1 fail, 2 error.

    Raises:
        UsageError: the arguments are wrong, or GitHub does not take what is posted.
    """
    parser = _Parser(prog="python -m pyharness gate", description=(__doc__ or "").partition("\n")[0].partition(": ")[2])
    parser.add_argument("--repo", required=True, help="the repository of the commit, owner/name")
    parser.add_argument("--sha", required=True, help="the commit, in full")
    parser.add_argument("--pull-request", type=int, metavar="N", help="gets a comment; default: none")
    parser.add_argument("--results", type=Path, metavar="DIR", help="the results of the run")
    parser.add_argument("--verdict", choices=sorted(_STATES), help="in place of results")
    parser.add_argument("--line", default="", help="what --verdict is about")
    parser.add_argument("--url", required=True, help="where log and results are")
    options = parser.parse_args(arguments)
    try:
        repository = github_artifacts.Repository(options.repo, os.environ)
    except github_artifacts.ArtifactError as error:
        raise UsageError(f"gate: {error}") from None
    if not repository.token:
        raise UsageError(f"gate: there is no token; set {' or '.join(github_artifacts.TOKEN_VARIABLES)}")
    if options.verdict:
        outcome = Outcome(options.verdict, options.line or options.verdict)
    elif options.results:
        outcome = read(options.results)
    else:
        raise UsageError("gate: give --results DIR or --verdict")
    text = redaction.redact(markdown(outcome, options.sha, options.url))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(text)
    sys.stdout.write(f"{outcome.verdict.upper()}: {outcome.line}\n")
    poster = Poster(repository.name, repository.token, repository.api)
    poster.status(options.sha, outcome, options.url)
    if options.pull_request is not None:
        poster.comment(options.pull_request, text)
    return EXIT_CODES[outcome.verdict]
