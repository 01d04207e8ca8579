"""The verb `tone`: have T-One run the test cases on its own hosts, and wait for its verdict.

T-One's interface as Mooncake's workflow integration-test.yml uses it: POST /api/job/create/ and /api/job/query/ with
JSON; each request is signed with base64 of `user|token|seconds since the epoch`. That is the token itself, so nothing
that is sent is ever shown.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import requests

from pyharness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

URL = "https://tone.openanolis.cn"
POLL_SECONDS = 30.0
RUNNING_POLLS = 240  # two hours of a job that runs
POLLS = 2880  # a day in all, waiting for hosts included
_FAILED_POLLS = 5  # in a row
_TIMEOUT = (10, 60)

Verdict = Literal["pass", "fail"]


class ToneError(Exception):
    """T-One gave no verdict. The text is one line, without anything that was sent."""


@dataclass(frozen=True)
class Template:
    """What T-One is to run.

    Attributes:
        workspace, project, template: their names in T-One.
    """

    workspace: str = "mooncake_test"
    project: str = "mooncake-ci"
    template: str = "mooncake-ci-test"


class Tone:
    """A client of T-One.

    Args:
        environment: gives TONE_USER_NAME, TONE_USER_TOKEN and, if need be, TONE_URL.
        pause: waits for seconds.

    Raises:
        UsageError: user or token is missing.
    """

    def __init__(self, environment: Mapping[str, str], pause: Callable[[float], None] = time.sleep) -> None:
        self._user, self._token = environment.get("TONE_USER_NAME", ""), environment.get("TONE_USER_TOKEN", "")
        if not self._user or not self._token:
            raise UsageError("tone: set TONE_USER_NAME and TONE_USER_TOKEN in the environment")
        self.url = (environment.get("TONE_URL") or URL).rstrip("/")
        self._pause = pause

    def create(self, name: str, variables: Mapping[str, str], template: Template) -> int:
        """Make a job. Returns its id. It is asked for once: a second try could make a second job.

        Args:
            name: the job's name.
            variables: environment variables of the job, such as ARTIFACT_ID.
            template: what is to run.

        Raises:
            ToneError: T-One did not take it.
        """
        told = " ".join(f"{key}={value}" for key, value in variables.items())
        answer = self._post(
            "/api/job/create/",
            {
                "workspace": template.workspace,
                "project": template.project,
                "template": template.template,
                "name": name,
                "env_ifs": " ",
                "env_info": told,
            },
        )
        number = answer.get("id")
        if not isinstance(number, int):
            raise ToneError("T-One took the job and did not say its id; look for it in T-One")
        return number

    def wait(self, job: int, tell: Callable[[str], None]) -> Verdict:
        """Ask every 30 s until the job has ended.

        Args:
            job: its id.
            tell: told of every new state.

        Raises:
            ToneError: it did not end in time (two hours of running, a day in all), ended without a verdict, or T-One
                did not answer five times in a row.
        """
        running = failed = 0
        last = "not asked yet"
        for _poll in range(POLLS):
            try:
                answer = self._post("/api/job/query/", {"job_id": str(job)})
            except ToneError as error:
                failed += 1
                if failed == _FAILED_POLLS:
                    raise ToneError(f"job {job}: {failed} times in a row: {error}; last state: {last}") from None
                self._pause(POLL_SECONDS)
                continue
            failed = 0
            state, second = (str(answer.get(key, "")).lower() for key in ("job_state", "job_second_state"))
            if (now := f"{state} {second}".strip()) != last:
                tell(f"job {job}: {now}")
                last = now
            if "pass" in second:
                return "pass"
            if "fail" in second:
                return "fail"
            if "stop" in state or "skip" in state:
                raise ToneError(f"job {job} has ended without a verdict: {now}")
            running += "running" in state
            if running > RUNNING_POLLS:
                raise ToneError(
                    f"job {job} has been running for {RUNNING_POLLS * POLL_SECONDS / 60:.0f} min; stop it in T-One"
                )
            self._pause(POLL_SECONDS)
        raise ToneError(f"job {job} has not ended within {POLLS * POLL_SECONDS / 3600:.0f} h; last state: {last}")

    def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        signature = base64.b64encode(f"{self._user}|{self._token}|{time.time()}".encode()).decode()
        signed = {**body, "username": self._user, "signature": signature}
        try:
            # Not redirected: the body would go along.
            answer = requests.post(self.url + path, json=signed, timeout=_TIMEOUT, allow_redirects=False)
            document = answer.json()
        except requests.exceptions.JSONDecodeError:
            raise ToneError(f"T-One answers HTTP {answer.status_code} without JSON") from None
        except requests.RequestException as error:
            raise ToneError(f"T-One cannot be reached ({type(error).__name__})") from None
        code, data = (document.get("code"), document.get("data")) if isinstance(document, dict) else (None, None)
        if code != 200 or not isinstance(data, dict):
            said = str(document.get("msg", "") if isinstance(document, dict) else "")[:200]
            for secret in (self._token, signature):
                said = said.replace(secret, "***")
            raise ToneError(
                f"T-One refuses {path.strip('/')} (HTTP {answer.status_code}, code {code}): {said or 'no reason'}"
            )
        return data


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"tone: {message}; see: python -m pyharness tone --help")


def main(arguments: Sequence[str]) -> int:
    """Run the verb.

    Args:
        arguments: what stands after `tone`.

    Returns:
        0 when T-One says pass, 1 when it says fail, 2 when there is no verdict.

    Raises:
        UsageError: the arguments are wrong, or user or token is missing.
    """
    parser = _Parser(prog="python -m pyharness tone", description=(__doc__ or "").partition("\n")[0].partition(": ")[2])
    parser.add_argument("--artifact", required=True, type=int, metavar="ID", help="the artifact with the wheel")
    parser.add_argument("--repo", required=True, help="its repository, owner/name")
    parser.add_argument("--sha", required=True, help="the commit; it names the job")
    parser.add_argument("--pull-request", type=int, metavar="N", help="its number, for T-One to show")
    parser.add_argument("--workspace", default=Template.workspace)
    parser.add_argument("--project", default=Template.project)
    parser.add_argument("--template", default=Template.template)
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", options.repo):
        raise UsageError(f"tone: --repo {options.repo}: has to be owner/name")
    tone = Tone(os.environ)
    variables = {"ARTIFACT_ID": str(options.artifact), "GIT_REPO": options.repo}
    if options.pull_request is not None:
        variables["PR_ID"] = str(options.pull_request)
    template = Template(options.workspace, options.project, options.template)

    def tell(text: str) -> None:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    try:
        job = tone.create(f"mooncake-ci-{options.sha}", variables, template)
        tell(f"job {job} made in {tone.url}, workspace {options.workspace}")
        verdict = tone.wait(job, tell)
    except ToneError as error:
        sys.stdout.write(f"ERROR T-One: {error}\n")
        return 2
    sys.stdout.write(f"{verdict.upper()} T-One: job {job}\n")
    return 0 if verdict == "pass" else 1
