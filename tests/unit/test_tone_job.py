"""The verb `tone`: a job of T-One, against a server that is not T-One's."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import tone
from pyharness.errors import UsageError
from tests.unit.fake_http import Answer, FakeServer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

TOKEN = "tone-PLANTED-token"  # noqa: S105 (planted to be looked for)
CREATE, QUERY = "/api/job/create/", "/api/job/query/"
ARGUMENTS = ["--artifact", "7", "--repo", "o/r", "--sha", "abc"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with serving("127.41.2.1") as fake:
        fake.answers[CREATE] = Answer(body={"code": 200, "data": {"id": 42}})
        monkeypatch.setenv("TONE_URL", fake.url)
        monkeypatch.setenv("TONE_USER_NAME", "somebody")
        monkeypatch.setenv("TONE_USER_TOKEN", TOKEN)
        monkeypatch.setattr(tone, "POLL_SECONDS", 0.0)
        yield fake


def state(state: str, second: str = "") -> Answer:
    return Answer(body={"code": 200, "data": {"job_state": state, "job_second_state": second}})


def run(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Run the verb. Returns the exit code and all that it says, in which nothing secret is."""
    code = tone.main([*ARGUMENTS, *more])
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert TOKEN not in text
        assert base64.b64encode(f"somebody|{TOKEN}".encode()).decode()[:30] not in text
    return code, told.err + told.out


def body(server: FakeServer, path: str) -> dict[str, Any]:
    return dict(json.loads(server.asked(path)[0].body))


def test_a_job_is_made_and_waited_for(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers[QUERY] = [state("pending"), state("running"), state("running"), state("success", "pass")]
    code, told = run(capsys, "--pull-request", "12")
    assert code == 0
    assert told.splitlines()[1:] == [
        "job 42: pending",
        "job 42: running",
        "job 42: success pass",
        "PASS T-One: job 42",
    ]
    made = body(server, CREATE)
    user, token, moment = base64.b64decode(made.pop("signature")).decode().split("|")
    assert (user, token) == ("somebody", TOKEN)
    assert float(moment) > 0
    assert made == {
        "workspace": "mooncake_test",
        "project": "mooncake-ci",
        "template": "mooncake-ci-test",
        "name": "mooncake-ci-abc",
        "username": "somebody",
        "env_ifs": " ",
        "env_info": "ARTIFACT_ID=7 GIT_REPO=o/r PR_ID=12",
    }
    assert body(server, QUERY)["job_id"] == "42"
    assert len(server.asked(CREATE)) == 1


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        (state("fail", "fail"), 1, "FAIL T-One: job 42"),
        (state("stop"), 2, "ERROR T-One: job 42 has ended without a verdict: stop"),
    ],
)
def test_each_end_has_its_exit_code(
    server: FakeServer, capsys: pytest.CaptureFixture[str], last: Answer, code: int, said: str
) -> None:
    server.answers[QUERY] = last
    found, told = run(capsys)
    assert (found, told.splitlines()[-1]) == (code, said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            Answer(body={"code": 201, "msg": f"bad signature for {TOKEN}"}),
            "(HTTP 200, code 201): bad signature for ***",
        ),
        (Answer(500, b"<html>"), "T-One answers HTTP 500 without JSON"),
        (Answer(body=[]), "code None): no reason"),
        (Answer(body={"code": 200, "data": {}}), "did not say its id"),
        (Answer(302, b"{}", {"Location": "http://127.41.2.2/"}), "(HTTP 302, code None)"),
    ],
)
def test_a_job_that_is_not_taken_is_an_error_and_not_asked_for_twice(
    server: FakeServer, capsys: pytest.CaptureFixture[str], answer: Answer, said: str
) -> None:
    server.answers[CREATE] = answer
    code, told = run(capsys)
    assert code == 2
    assert said in told
    assert len(server.requests) == 1


def test_a_question_without_an_answer_is_asked_again(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    bad = Answer(502, b"")
    server.answers[QUERY] = [bad, bad, state("running"), bad, bad, bad, bad, state("success", "pass")]
    assert run(capsys)[0] == 0
    server.answers[QUERY] = [state("running"), bad]
    code, told = run(capsys)
    assert code == 2
    assert "job 42: 5 times in a row: T-One answers HTTP 502 without JSON; last state: running" in told


def test_a_job_has_its_time(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tone, "RUNNING_POLLS", 3)
    monkeypatch.setattr(tone, "POLLS", 6)
    server.answers[QUERY] = state("running")
    assert "job 42 has been running for" in run(capsys)[1]
    assert len(server.asked(QUERY)) == 4
    server.answers[QUERY] = state("pending")
    code, told = run(capsys)
    assert code == 2
    assert "has not ended within 0 h; last state: pending" in told
    assert len(server.asked(QUERY)) == 4 + 6


def test_a_server_that_is_not_there_is_an_error(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving("127.41.2.3") as gone:
        monkeypatch.setenv("TONE_URL", gone.url)
    code, told = run(capsys)
    assert (code, told) == (2, "ERROR T-One: T-One cannot be reached (ConnectionError)\n")
    assert server.requests == []


def test_what_is_missing_is_told(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="the following arguments are required: --artifact"):
        tone.main(ARGUMENTS[2:])
    with pytest.raises(UsageError, match="--repo o/r X=1: has to be owner/name"):
        tone.main([*ARGUMENTS, "--repo", "o/r X=1"])
    monkeypatch.delenv("TONE_USER_TOKEN")
    with pytest.raises(UsageError, match="set TONE_USER_NAME and TONE_USER_TOKEN"):
        tone.main(ARGUMENTS)
    assert server.requests == []
