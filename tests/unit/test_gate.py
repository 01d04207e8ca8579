"""The verb `gate`: what is posted to GitHub about a run, against a server that is not GitHub's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import gate
from pyharness.errors import UsageError
from tests.unit.builders import make_failure, make_report
from tests.unit.fake_http import Answer, FakeServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyharness.results import Report

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

TOKEN = "ghs_PLANTEDplanted"  # noqa: S105 (planted to be looked for)
SHA = "0123456789" * 4
STATUS = f"/repos/o/r/statuses/{SHA}"
COMMENTS = "/repos/o/r/issues/5/comments"
URL = "https://ci.example/1"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeServer]:
    with serving("127.41.4.1") as server:
        server.answers[STATUS] = Answer(201, {})
        server.answers[COMMENTS] = lambda request: Answer(201, {}) if request.body else Answer(body=[])
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        monkeypatch.setenv("GH_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
        yield server


def leave(results: Path, report: Report, name: str = "test_it") -> None:
    (results / name).mkdir(parents=True)
    report.judge()
    (results / name / "report.json").write_text(json.dumps(report.to_json()))


def post(tmp_path: Path, *more: str) -> int:
    known = ["--repo", "o/r", "--sha", SHA, "--pull-request", "5", "--url", URL]
    return gate.main([*known, *(more or ("--results", str(tmp_path / "run")))])


def sent(github: FakeServer, path: str) -> dict[str, Any]:
    (request,) = (request for request in github.requests if request.path == path and request.body)
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    return dict(json.loads(request.body))


@pytest.mark.parametrize(
    ("failures", "verdict", "code", "state"),
    [([], "pass", 0, "success"), ([{}], "fail", 1, "failure"), ([{"class": "test"}], "error", 2, "error")],
)
def test_each_verdict_has_its_status(
    tmp_path: Path,
    github: FakeServer,
    capsys: pytest.CaptureFixture[str],
    failures: list[dict[str, Any]],
    verdict: str,
    code: int,
    state: str,
) -> None:
    leave(tmp_path / "run", make_report(failures=[make_failure(**changes) for changes in failures]))
    assert post(tmp_path) == code
    line = f"test_it: {verdict}"
    assert sent(github, STATUS) == {"state": state, "context": "disagg-e2e", "target_url": URL, "description": line}
    text = sent(github, COMMENTS)["body"]
    assert text.startswith(f"<!-- disagg-e2e -->\n### disagg-e2e: {verdict}\n")
    assert (tmp_path / "summary.md").read_text() in text
    assert f"| test_it | {verdict} | {1 if verdict == 'pass' else 0} of 1 | not known | 0 |" in text
    told = capsys.readouterr()
    assert told.out == f"{verdict.upper()}: {line}\n"
    assert TOKEN not in text + told.out + told.err


def test_the_worst_verdict_counts(tmp_path: Path, github: FakeServer) -> None:
    leave(tmp_path / "run", make_report())
    leave(tmp_path / "run", make_report(test_case="test_other", failures=[make_failure()]), "test_other")
    assert post(tmp_path) == 1
    assert sent(github, STATUS)["description"] == "test_it: pass, test_other: fail"


@pytest.mark.parametrize("content", [None, "", "{}", '{"verdict": "pass"}'])
def test_no_readable_result_is_an_error(tmp_path: Path, github: FakeServer, content: str | None) -> None:
    if content is not None:
        leave(tmp_path / "run", make_report())
        (tmp_path / "run" / "test_broken").mkdir()
        (tmp_path / "run" / "test_broken" / "report.json").write_text(content)
    assert post(tmp_path) == 2
    assert sent(github, STATUS)["state"] == "error"
    said = "the run left no result" if content is None else "test_it: pass, test_broken: its report cannot be read"
    assert sent(github, STATUS)["description"] == said


def test_the_comment_of_before_is_written_anew(tmp_path: Path, github: FakeServer) -> None:
    leave(tmp_path / "run", make_report())
    others = [{"id": number, "body": "I have seen <!-- disagg-e2e -->"} for number in range(100)]
    pages = {"1": others, "2": [{"id": 500, "body": "<!-- disagg-e2e -->\nold"}]}
    github.answers[COMMENTS] = lambda request: Answer(body=pages[request.query["page"]])
    github.answers["/repos/o/r/issues/comments/500"] = Answer(200, {})
    assert post(tmp_path) == 0
    assert "disagg-e2e: pass" in sent(github, "/repos/o/r/issues/comments/500")["body"]
    assert not [request for request in github.asked(COMMENTS) if request.body]


def test_what_a_node_says_stays_text(tmp_path: Path, github: FakeServer) -> None:
    evil = "```\n@everyone <script>alert(1)</script> ````\x1b[31m"
    failure = make_failure(evidence=evil, check="a|b](x)")
    leave(tmp_path / "run", make_report(test_case="test_|it", failures=[failure]))
    post(tmp_path)
    text = sent(github, COMMENTS)["body"]
    assert "\n```````\n```\n@everyone <script>" in text
    assert "\x1b" not in text
    assert "**test_?it**, product: a?b??x? (org/model)" in text


def test_many_failures_are_cut(tmp_path: Path, github: FakeServer) -> None:
    failures = [make_failure(evidence="x" * 9000) for _number in range(12)]
    leave(tmp_path / "run", make_report(test_case="t" * 200, failures=failures))
    post(tmp_path)
    text = sent(github, COMMENTS)["body"]
    assert "and 2 more failures, in the results" in text
    assert len(text) < 65536, "GitHub takes no longer comment"
    assert len(sent(github, STATUS)["description"]) == 140


def test_a_verdict_from_elsewhere_is_posted_too(tmp_path: Path, github: FakeServer) -> None:
    assert post(tmp_path, "--verdict", "fail", "--line", "FAIL T-One: job 42") == 1
    assert sent(github, STATUS)["description"] == "FAIL T-One: job 42"
    assert "FAIL T-One: job 42" in sent(github, COMMENTS)["body"]


def test_without_a_pull_request_there_is_no_comment(tmp_path: Path, github: FakeServer) -> None:
    assert gate.main(["--repo", "o/r", "--sha", SHA, "--url", URL, "--verdict", "pass"]) == 0
    assert [request.path for request in github.requests] == [STATUS]
    assert tmp_path.exists()


def test_what_github_does_not_take_is_told(tmp_path: Path, github: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path / "run", make_report())
    github.answers[COMMENTS] = Answer(404, {"message": "Not Found"})
    with pytest.raises(UsageError, match=r"comments of o/r#5: HTTP 404: Not Found"):
        post(tmp_path)
    github.answers[STATUS] = Answer(403, {})
    with pytest.raises(UsageError, match=r"does not take statuses \(HTTP 403\); the token needs the permission"):
        post(tmp_path)
    with serving("127.41.4.2") as gone:
        monkeypatch.setenv("GITHUB_API_URL", gone.url)
    with pytest.raises(UsageError, match="GitHub cannot be reached"):
        post(tmp_path)


def test_what_is_missing_is_told(tmp_path: Path, github: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["--repo", "o/r", "--sha", SHA, "--url", URL]
    with pytest.raises(UsageError, match="give --results DIR or --verdict"):
        gate.main(known)
    with pytest.raises(UsageError, match="the following arguments are required: --url"):
        gate.main(known[:-2])
    with pytest.raises(UsageError, match="has to be owner/name"):
        gate.main([*known, "--repo", "r", "--verdict", "pass"])
    monkeypatch.delenv("GH_TOKEN")
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    with pytest.raises(UsageError, match="there is no token; set GH_TOKEN or GITHUB_TOKEN"):
        post(tmp_path)
    assert github.requests == []
