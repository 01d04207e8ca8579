"""The verb `artifact`: which artifact of a commit is taken, and how long it is waited for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import artifacts
from pyharness.errors import UsageError
from pyharness.from_collection import github_artifacts
from tests.unit.fake_http import Answer, FakeServer, Request, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

SHA = "0123456789" * 4
RUNS = "/repos/o/r/actions/runs"
WORDS = ("py312", "mooncake", "cu130")
NAME = "mooncake-wheel-cu130-py312"


@pytest.fixture
def github() -> Iterator[FakeServer]:
    with serving("127.41.1.1") as server:
        yield server


class Clock:
    """A clock that moves when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def entry(number: int, name: str = NAME, created: str = "2026-01-01T00:00:00Z", **changes: Any) -> dict[str, Any]:
    return {"id": number, "name": name, "created_at": created, "expired": False, **changes}


def run(number: int, status: str = "completed", name: str = "Build & Test (Linux)") -> dict[str, Any]:
    return {"id": number, "status": status, "name": name}


def listing(key: str, items: list[dict[str, Any]]) -> Callable[[Request], Answer]:
    """Answer by pages, as GitHub does."""

    def answer(request: Request) -> Answer:
        size, page = int(request.query["per_page"]), int(request.query["page"])
        return Answer(body={"total_count": len(items), key: items[(page - 1) * size : page * size]})

    return answer


def publish(server: FakeServer, of_runs: dict[int, list[dict[str, Any]]], status: str = "completed") -> None:
    server.answers[RUNS] = listing("workflow_runs", [run(number, status) for number in of_runs])
    for number, items in of_runs.items():
        server.answers[f"{RUNS}/{number}/artifacts"] = listing("artifacts", items)


def look(server: FakeServer, clock: Clock | None = None, wait: float = 0.0, words: tuple[str, ...] = WORDS) -> int:
    clock = clock or Clock()
    repository = github_artifacts.Repository("o/r", {"GITHUB_API_URL": server.url}, clock.pause)
    found = artifacts.find(repository, SHA, words, wait_seconds=wait, pause=clock.pause, clock=lambda: clock.now)
    return found.number


def test_all_words_have_to_be_in_the_name(github: FakeServer) -> None:
    publish(github, {1: [entry(10, "mooncake-wheel-cu130-py310"), entry(11), entry(12, "mooncake-wheel-ci-py312")]})
    assert look(github) == 11
    assert look(github, words=("PY310",)) == 10
    assert github.requests[0].query["head_sha"] == SHA


def test_the_newest_that_has_not_expired_is_taken(github: FakeServer) -> None:
    first, second, third = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"
    publish(
        github, {1: [entry(30, created=second), entry(10, created=first)], 2: [entry(20, created=third, expired=True)]}
    )
    assert look(github) == 30


def test_every_page_is_read(github: FakeServer) -> None:
    many = [entry(number, f"log-{number}") for number in range(1000, 1230)]
    publish(github, {**{number: [] for number in range(1, 121)}, 500: [*many, entry(7)]})
    assert look(github) == 7
    assert [request.query["page"] for request in github.asked("/500/artifacts")] == ["1", "2", "3"]
    assert len(github.asked("/actions/runs")) == 2


@pytest.mark.parametrize(
    ("runs", "status", "said"),
    [
        ({}, "", "it has no workflow run: see whether the commit is right"),
        ({1: []}, "in_progress", "Build & Test (Linux) still running: --wait SECONDS waits for that"),
        ({1: []}, "completed", "its workflow runs left none"),
        ({1: [entry(1, "logs")], 2: [entry(2, "other")]}, "completed", "its finished workflow runs left logs, other:"),
        ({1: [entry(9, expired=True)]}, "in_progress", f"{NAME} (9) has expired; run its workflow again"),
    ],
)
def test_where_there_is_none_it_is_said_why(
    github: FakeServer, runs: dict[int, list[dict[str, Any]]], status: str, said: str
) -> None:
    publish(github, runs, status)
    with pytest.raises(UsageError) as failure:
        look(github)
    told = str(failure.value)
    assert told.startswith(f"no artifact with py312 and mooncake and cu130 of commit {SHA} in o/r: ")
    assert said in told


def test_a_run_that_has_not_finished_is_waited_for(github: FakeServer) -> None:
    publish(github, {1: []}, "in_progress")
    later = listing("artifacts", [entry(5)])
    answers = iter([listing("artifacts", []), listing("artifacts", []), later])

    def next_answer(request: Request) -> Answer:
        return next(answers)(request)

    github.answers[f"{RUNS}/1/artifacts"] = next_answer
    clock = Clock()
    assert look(github, clock, wait=3600) == 5
    assert clock.waits == [30.0, 30.0]


def test_waiting_has_an_end(github: FakeServer) -> None:
    publish(github, {1: []}, "queued")
    clock = Clock()
    with pytest.raises(UsageError, match="still running"):
        look(github, clock, wait=100)
    assert clock.waits == [30.0, 30.0, 30.0, 10.0]


def test_finished_runs_are_not_waited_for(github: FakeServer) -> None:
    publish(github, {1: []})
    clock = Clock()
    with pytest.raises(UsageError, match="left none"):
        look(github, clock, wait=math.inf)
    assert clock.waits == []


def test_the_verb_prints_the_id(
    github: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", github.url)
    publish(github, {1: [entry(11)]})
    names = ["--name", "py312", "--name", "cu130"]
    assert artifacts.main(["--repo", "o/r", "--sha", SHA, *names]) == 0
    assert capsys.readouterr().out == "11\n"
    monkeypatch.setenv("GIT_REPO", "o/r")
    assert artifacts.main(["--sha", SHA]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "artifact: the following arguments are required: --sha; see: python -m pyharness artifact --help"),
        (["--sha", SHA, "--repo", ""], "artifact --repo: GIT_REPO is '' and has to be owner/name"),
        (["--sha", "abc123", "--repo", "o/r"], "artifact --sha abc123: has to be a commit's whole id"),
        (["--sha", f"{SHA}&x=1", "--repo", "o/r"], "has to be a commit's whole id"),
        (
            ["--sha", SHA, "--repo", "o/r"],
            "workflow runs of o/r: there is none (HTTP 404: Not Found): the id or",
        ),
    ],
)
def test_what_cannot_be_looked_for_is_one_line(
    github: FakeServer, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setenv("GITHUB_API_URL", github.url)
    for name in ("GIT_REPO", "GH_TOKEN", "GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError) as failure:
        artifacts.main(arguments)
    assert said in str(failure.value)
    assert "\n" not in str(failure.value)
