"""The verb `artifact`: find the artifact that a commit's workflow runs have built, such as a pull request's wheel."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from pyharness.errors import UsageError
from pyharness.from_collection import github_artifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Artifact = github_artifacts.Artifact
    Repository = github_artifacts.Repository

POLL_SECONDS = 30.0


def find(
    repository: Repository,
    sha: str,
    words: Iterable[str],
    *,
    wait_seconds: float = 0.0,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Artifact:
    """Find the newest artifact of a commit whose name holds all words and that has not expired.

    As long as there is none, and a workflow run of the commit has not finished or not begun, it is looked for again.

    Args:
        repository: where the workflow runs are.
        sha: the commit, in full.
        words: have to be in the artifact's name, in any order and case.
        wait_seconds: how long to look for it.
        pause: waits for seconds.
        clock: tells seconds.

    Raises:
        UsageError: there is none, or GitHub does not tell.
    """
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", sha):
        raise UsageError(f"artifact --sha {sha}: has to be a commit's whole id, as git rev-parse gives it")
    wanted = [word.lower() for word in words]
    deadline = clock() + wait_seconds
    while True:
        try:
            runs = repository.runs(sha)
            artifacts = [artifact for run in runs for artifact in repository.artifacts_of(int(run["id"]))]
        except github_artifacts.ArtifactError as error:
            raise UsageError(str(error)) from None
        fitting = [entry for entry in artifacts if all(word in entry.name.lower() for word in wanted)]
        live = [entry for entry in fitting if not entry.expired]
        if live:
            return max(live, key=lambda entry: (entry.created_at, entry.number))
        unfinished = [str(run.get("name")) for run in runs if run.get("status") != "completed"]
        left = deadline - clock()
        if fitting or (runs and not unfinished) or left <= 0:
            raise UsageError(_none(repository.name, sha, wanted, fitting, _seen(runs, unfinished, artifacts)))
        pause(min(POLL_SECONDS, left))


def _seen(runs: list[dict[str, object]], unfinished: list[str], artifacts: list[Artifact]) -> str:
    if not runs:
        return (
            "it has no workflow run: see whether the commit is right (the head of the pull request, in full), or --wait"
        )
    if unfinished:
        return f"{', '.join(sorted(set(unfinished)))} still running: --wait SECONDS waits for that"
    names = ", ".join(sorted({artifact.name for artifact in artifacts})[:10])
    return f"its finished workflow runs left {names}: choose other words" if names else "its workflow runs left none"


def _none(repository: str, sha: str, words: list[str], expired: list[Artifact], seen: str) -> str:
    what = f"no artifact with {' and '.join(words) or 'any name'} of commit {sha} in {repository}"
    if expired:
        return f"{what}: {expired[0].name} ({expired[0].number}) has expired; run its workflow again"
    return f"{what}: {seen}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"artifact: {message}; see: python -m pyharness artifact --help")


def main(arguments: Sequence[str]) -> int:
    """Run the verb: print the artifact's id.

    Args:
        arguments: what stands after `artifact`.

    Returns:
        0.

    Raises:
        UsageError: there is no such artifact, or the arguments are wrong.
    """
    parser = _Parser(prog="python -m pyharness artifact", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--repo", default=os.environ.get("GIT_REPO", ""), help="owner/name; default: GIT_REPO")
    parser.add_argument("--sha", required=True, help="the commit, in full: the head of the pull request")
    parser.add_argument(
        "--name", action="append", default=[], metavar="WORD", help="has to be in the artifact's name; repeatable"
    )
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for it; default: not at all"
    )
    options = parser.parse_args(arguments)
    try:
        repository = github_artifacts.Repository(options.repo, os.environ)
    except github_artifacts.ArtifactError as error:
        raise UsageError(f"artifact --repo: {error}") from None
    sys.stdout.write(f"{find(repository, options.sha, options.name, wait_seconds=options.wait).number}\n")
    return 0
