"""Artifacts of GitHub Actions: what there is of a commit, and its content. For the controller.

Protocol: https://docs.github.com/rest/actions/artifacts and https://docs.github.com/rest/actions/workflow-runs
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, Mapping, TypeVar
from urllib.parse import urlsplit

from ansible_collections.disagg.e2e.plugins.module_utils import patient_http

if TYPE_CHECKING:
    from pathlib import Path

    import requests

T = TypeVar("T")

API = "https://api.github.com"
TOKEN_VARIABLES = ("GH_TOKEN", "GITHUB_TOKEN")  # the first that is set, as GitHub's own gh has it
_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_PER_PAGE = 100  # the most that GitHub gives


class ArtifactError(Exception):
    """An artifact cannot be had. The text is one line: which, why, what to do."""


@dataclass(frozen=True)
class Artifact:
    """One artifact.

    Attributes:
        number: its id.
        name: its name.
        expired: whether GitHub has removed its content.
        expires_at: when it does so.
        created_at: when it was uploaded; sorts as text.
        digest: sha256 of its zip file; empty where GitHub does not say.
    """

    number: int
    name: str
    expired: bool
    expires_at: str
    created_at: str
    digest: str

    @classmethod
    def of(cls, data: dict[str, Any]) -> Artifact:
        """Read GitHub's description."""
        algorithm, _, digest = str(data.get("digest") or "").partition(":")
        return cls(
            number=int(data["id"]),
            name=str(data["name"]),
            expired=bool(data.get("expired")),
            expires_at=str(data.get("expires_at") or ""),
            created_at=str(data.get("created_at") or ""),
            digest=digest if algorithm == "sha256" else "",
        )


class Repository:
    """One repository on GitHub.

    Args:
        name: owner/name; an address on github.com will do.
        environment: gives the token (GH_TOKEN, GITHUB_TOKEN) and the API's address (GITHUB_API_URL).
        pause: waits for seconds.

    Attributes:
        name: owner/name.
        api: the API's address.
        token: the token; empty: there is none.

    Raises:
        ArtifactError: the name is none, or the token cannot be one.
    """

    def __init__(self, name: str, environment: Mapping[str, str], pause: Callable[[float], None] = time.sleep) -> None:
        self.name = re.sub(r"^https://github\.com/|(\.git)?/?$", "", name)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.name):
            raise ArtifactError(f"GIT_REPO is {name!r} and has to be owner/name, such as kvcache-ai/Mooncake")
        self.api = (environment.get("GITHUB_API_URL") or API).rstrip("/")
        variable = next((key for key in TOKEN_VARIABLES if environment.get(key)), TOKEN_VARIABLES[0])
        self.token = environment.get(variable, "").strip()
        if not re.fullmatch(r"[!-~]*", self.token):  # http.client would show it in its complaint
            raise ArtifactError(
                f"{variable} holds a space, a line break or another character that no token has; set it again"
            )
        self._pause = pause

    def artifact(self, number: int) -> Artifact:
        """Describe one artifact.

        Raises:
            ArtifactError: there is none, or it may not be seen.
        """
        return Artifact.of(self._get(f"actions/artifacts/{number}", f"artifact {number} of {self.name}", "id", "name"))

    def download(self, number: int, target: Path) -> str:
        """Fetch the zip file of an artifact. Returns the sha256 of the file.

        Raises:
            ArtifactError: it is not to be had, or what came is not what GitHub says it is.
        """
        what = f"artifact {number} of {self.name}"
        if not self.token:
            raise ArtifactError(
                f"{what}: GitHub gives artifacts to known users only; set {' or '.join(TOKEN_VARIABLES)}"
            )
        artifact = self.artifact(number)
        if artifact.expired:
            raise ArtifactError(_expired(what, artifact.expires_at))
        digest = self._ask(f"actions/artifacts/{number}/zip", what, lambda answer: patient_http.save(answer, target))
        if artifact.digest and digest != artifact.digest:
            raise ArtifactError(
                f"{what}: its zip file has sha256 {digest}, and GitHub says {artifact.digest}; something on the way "
                "changed it: see which proxy is in use"
            )
        return digest

    def runs(self, sha: str) -> list[dict[str, Any]]:
        """Return the workflow runs of a commit, as GitHub describes them.

        Raises:
            ArtifactError: they may not be seen.
        """
        return list(self._all(f"actions/runs?head_sha={sha}", "workflow_runs", f"workflow runs of {self.name}"))

    def artifacts_of(self, run: int) -> list[Artifact]:
        """Return the artifacts of a workflow run.

        Raises:
            ArtifactError: they may not be seen.
        """
        path, what = f"actions/runs/{run}/artifacts?", f"artifacts of run {run} of {self.name}"
        return [Artifact.of(data) for data in self._all(path, "artifacts", what)]

    def _all(self, path: str, key: str, what: str) -> Iterator[dict[str, Any]]:
        page, seen = 1, 0
        while True:
            answer = self._get(f"{path}&per_page={_PER_PAGE}&page={page}", what, key, "total_count")
            yield from answer[key]
            page, seen = page + 1, seen + len(answer[key])
            if len(answer[key]) == 0 or seen >= answer["total_count"]:
                return

    def _get(self, path: str, what: str, *keys: str) -> dict[str, Any]:
        answer = self._ask(path, what, lambda response: response.json())
        if not isinstance(answer, dict) or not answer.keys() >= set(keys):
            host = urlsplit(self.api).hostname
            raise ArtifactError(f"{what}: {host} does not answer as GitHub's API does; check GITHUB_API_URL")
        return answer

    def _ask(self, path: str, what: str, read: Callable[[requests.Response], T]) -> T:
        url = f"{self.api}/repos/{self.name}/{path}"
        try:
            return patient_http.ask(url, read, token=self.token, headers=_HEADERS, pause=self._pause)
        except patient_http.Refused as refused:
            raise ArtifactError(self._explain(refused, what)) from None
        except patient_http.GaveUp as error:
            raise ArtifactError(f"{what}: {error}; run again later") from None

    def _explain(self, refused: patient_http.Refused, what: str) -> str:
        if refused.status == 401:
            return f"{what}: GitHub does not accept the token ({refused}); set {TOKEN_VARIABLES[0]} to a valid one"
        if refused.status == 403:
            return (
                f"{what}: the token has no right to it ({refused}); give it the permission Actions: read of {self.name}"
            )
        if refused.status == 404:
            seen = "the token may not see it" if self.token else "it takes a token to see it"
            return (
                f"{what}: there is none ({refused}): the id or the repository is wrong, or {seen}; check ARTIFACT_ID, "
                f"GIT_REPO and {TOKEN_VARIABLES[0]}"
            )
        if refused.status == 410:
            return _expired(what, "")
        return f"{what}: {refused}"


def _expired(what: str, when: str) -> str:
    return (
        f"{what}: it has expired{f' on {when}' if when else ''}; run its workflow again and take the new artifact's id"
    )
