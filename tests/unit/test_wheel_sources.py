"""Wheels by URL and out of artifacts, against servers that are not GitHub's."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.disagg.e2e.plugins.action import wheel_file
from ansible_collections.disagg.e2e.plugins.module_utils import patient_http
from tests.unit.builders import write_wheel
from tests.unit.fake_http import Answer, FakeServer, serving
from tests.unit.test_actions import act
from tests.unit.test_wheel_choice import SEVERAL

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

TOKEN = "ghp_PLANTEDplanted0123456789"  # noqa: S105 (planted to be looked for)
SIGNATURE = "SIGNEDsigned"
ARTIFACT = "/repos/o/r/actions/artifacts/7"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that would have been waited."""
    waited: list[float] = []
    ask = patient_http.ask

    def asked(*arguments: Any, **options: Any) -> Any:
        return ask(*arguments, **{**options, "pause": waited.append})

    monkeypatch.setattr(patient_http, "ask", asked)
    return waited


@pytest.fixture
def store() -> Iterator[FakeServer]:
    """Return the server that artifacts really lie on."""
    with serving("127.41.0.2") as server:
        yield server


@pytest.fixture
def github(store: FakeServer, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """Return a GitHub that has artifact 7 of o/r, and an environment that leads to it."""
    del waits
    with serving("127.41.0.1") as server:
        server.answers[ARTIFACT] = Answer(body=description())
        server.answers[f"{ARTIFACT}/zip"] = Answer(302, headers={"Location": f"{store.url}/zip?sig={SIGNATURE}"})
        for name in ("GITHUB_TOKEN", "GH_TOKEN", "GIT_REPO"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        yield server


def description(**changes: Any) -> dict[str, Any]:
    return {"id": 7, "name": "mooncake-wheel-py312", "expired": False, "expires_at": "2026-03-01T00:00:00Z", **changes}


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def wheel_bytes(folder: Path, version: str = "1.0") -> bytes:
    folder.mkdir(exist_ok=True)
    return write_wheel(folder, {"demo/__init__.py": b""}, version=version).read_bytes()


def fetch(source: str, cache: Path, **options: Any) -> dict[str, Any]:
    return act(wheel_file, source=source, package="demo", cache_dir=str(cache), **options)


def artifact(cache: Path, **options: Any) -> dict[str, Any]:
    return fetch("artifact:7", cache, **{"repository": "o/r", **options})


def refused(source: str, cache: Path, **options: Any) -> str:
    """Return the one line that says why it is not to be had. Nothing secret is in it, and nothing stays behind."""
    with pytest.raises(AnsibleActionFail) as failure:
        fetch(source, cache, **options)
    told = str(failure.value)
    assert "\n" not in told
    assert TOKEN not in told
    assert SIGNATURE not in told
    assert failure.value.__cause__ is None
    assert [path for path in cache.rglob("*") if not path.name.endswith(".lock")] == []
    return told


def not_had(cache: Path) -> str:
    return refused("artifact:7", cache, repository="o/r")


# --- URLs


def test_a_wheel_by_url_is_fetched_once(tmp_path: Path, store: FakeServer) -> None:
    content = wheel_bytes(tmp_path)
    digest = hashlib.sha256(content).hexdigest()
    store.answers["/a/demo-1.0-py3-none-any.whl"] = Answer(body=content)
    url = f"{store.url}/a/demo-1.0-py3-none-any.whl?sig={SIGNATURE}#sha256={digest}"

    first, second = fetch(url, tmp_path / "cache"), fetch(url, tmp_path / "cache")

    assert (first["source"], first["sha256"], first["version"]) == ("url", digest, "1.0")
    assert first["origin"] == f"{store.url}/a/demo-1.0-py3-none-any.whl"
    assert (first["changed"], second["changed"]) == (True, False)
    assert [request.query for request in store.requests] == [{"sig": SIGNATURE}]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and SIGNATURE.encode() in path.read_bytes()] == []


def test_a_damaged_file_of_the_cache_is_fetched_again(tmp_path: Path, store: FakeServer) -> None:
    content = wheel_bytes(tmp_path)
    store.answers["/demo-1.0-py3-none-any.whl"] = Answer(body=content)
    url = f"{store.url}/demo-1.0-py3-none-any.whl#sha256={hashlib.sha256(content).hexdigest()}"
    Path(fetch(url, tmp_path / "cache")["file"]).write_bytes(b"damaged")
    again = fetch(url, tmp_path / "cache")
    assert again["changed"]
    assert Path(again["file"]).read_bytes() == content


def test_another_file_behind_a_url_is_refused(tmp_path: Path, store: FakeServer) -> None:
    store.answers["/demo-1.0-py3-none-any.whl"] = Answer(body=b"other")
    told = refused(f"{store.url}/demo-1.0-py3-none-any.whl?sig={SIGNATURE}#sha256={'0' * 64}", tmp_path)
    assert f"its sha256 is {hashlib.sha256(b'other').hexdigest()}, and {'0' * 64} was asked for" in told


def test_a_url_without_digest_is_refused_before_anything_is_asked(tmp_path: Path, store: FakeServer) -> None:
    told = refused(f"{store.url}/demo-1.0-py3-none-any.whl?sig={SIGNATURE}", tmp_path)
    assert "add #sha256=" in told
    assert store.requests == []


def test_a_url_that_leads_nowhere_is_told(tmp_path: Path, store: FakeServer, waits: list[float]) -> None:
    end = f"/demo-1.0-py3-none-any.whl?sig={SIGNATURE}#sha256={'0' * 64}"
    assert "HTTP 404: Not Found" in refused(store.url + end, tmp_path)
    assert waits == []
    with serving("127.41.0.3") as gone:
        url = gone.url
    assert "in 5 tries; the last: Connection refused" in refused(url + end, tmp_path)
    assert waits == [5.0, 10.0, 15.0, 20.0]


# --- artifacts that are to be had


@pytest.mark.parametrize("folder", ["", "dist/"])
def test_an_artifact_is_fetched_once_and_the_token_stays_with_github(
    tmp_path: Path, github: FakeServer, store: FakeServer, folder: str
) -> None:
    content = wheel_bytes(tmp_path)
    archive = zipped({f"{folder}demo-1.0-py3-none-any.whl": content, "README": b""})
    github.answers[ARTIFACT] = Answer(body=description(digest=f"sha256:{hashlib.sha256(archive).hexdigest()}"))
    store.answers["/zip"] = Answer(body=archive)

    first = artifact(tmp_path / "cache")
    asked = len(github.requests)
    second = artifact(tmp_path / "cache")

    assert (first["source"], first["version"], first["origin"]) == ("artifact", "1.0", "artifact 7 of o/r")
    assert first["sha256"] == hashlib.sha256(content).hexdigest()
    assert (first["changed"], second["changed"]) == (True, False)
    assert (second["file"], len(github.requests)) == (first["file"], asked), "the second run needs no network"
    assert {request.headers["Authorization"] for request in github.requests} == {f"Bearer {TOKEN}"}
    assert ["Authorization" in request.headers for request in store.requests] == [False]
    assert store.requests[0].query == {"sig": SIGNATURE}
    for secret in (TOKEN, SIGNATURE):
        assert secret not in str(first)
        assert [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()] == []


def test_a_renamed_repository_is_followed_with_the_token(tmp_path: Path, github: FakeServer, store: FakeServer) -> None:
    github.answers[ARTIFACT] = Answer(301, headers={"Location": "/repositories/1/actions/artifacts/7"})
    github.answers["/repositories/1/actions/artifacts/7"] = Answer(body=description())
    store.answers["/zip"] = Answer(body=zipped({"demo-1.0-py3-none-any.whl": wheel_bytes(tmp_path)}))
    assert artifact(tmp_path / "cache")["version"] == "1.0"
    assert github.asked("1/actions/artifacts/7")[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_credentials_of_netrc_do_not_replace_the_token(
    tmp_path: Path, github: FakeServer, store: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.41.0.1 login a password b\nmachine 127.41.0.2 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    store.answers["/zip"] = Answer(body=zipped({"demo-1.0-py3-none-any.whl": wheel_bytes(tmp_path)}))
    artifact(tmp_path / "cache")
    assert github.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert "Authorization" not in store.requests[0].headers


def test_the_environment_names_the_repository(
    tmp_path: Path, github: FakeServer, store: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.answers["/zip"] = Answer(body=zipped({"demo-1.0-py3-none-any.whl": wheel_bytes(tmp_path)}))
    assert "of which repository? Set GIT_REPO" in refused("artifact:7", tmp_path / "cache")
    monkeypatch.setenv("GIT_REPO", "https://github.com/o/r.git")
    assert fetch("artifact:7", tmp_path / "cache")["origin"] == "artifact 7 of o/r"
    assert github.requests[0].path == ARTIFACT


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(503, b"<html>busy</html>"),
        Answer(429, {"message": "too many"}),
        Answer(403, {"message": "You have exceeded a secondary rate limit"}),
        Answer(200, b"x" * 1000, cut=10),
    ],
    ids=["server_error", "too_many", "secondary_limit", "cut"],
)
def test_what_may_pass_is_tried_again(
    tmp_path: Path, github: FakeServer, store: FakeServer, waits: list[float], trouble: Answer
) -> None:
    store.answers["/zip"] = [
        trouble,
        trouble,
        Answer(body=zipped({"demo-1.0-py3-none-any.whl": wheel_bytes(tmp_path)})),
    ]
    assert artifact(tmp_path / "cache")["version"] == "1.0"
    assert waits == [5.0, 10.0]
    assert len(github.asked("/zip")) == 3, "the address that GitHub gives lasts a minute: it is asked for anew"


def test_a_server_says_how_long_to_wait(
    tmp_path: Path, github: FakeServer, store: FakeServer, waits: list[float]
) -> None:
    good = Answer(body=zipped({"demo-1.0-py3-none-any.whl": wheel_bytes(tmp_path)}))
    store.answers["/zip"] = [Answer(429, headers={"Retry-After": "42"}), good]
    artifact(tmp_path / "cache")
    assert waits == [42.0]
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}
    github.answers[ARTIFACT] = Answer(403, {"message": "API rate limit exceeded"}, spent)
    told = refused("artifact:7", tmp_path / "other", repository="o/r")
    assert "asks to wait" in told
    assert "API rate limit exceeded" in told
    assert waits == [42.0]


# --- artifacts that are not


@pytest.mark.parametrize(
    ("end", "answer", "said"),
    [
        ("", Answer(401, {"message": "Bad credentials"}), "does not accept the token (HTTP 401: Bad credentials)"),
        (
            "",
            Answer(403, {"message": "Resource not accessible"}),
            "the token has no right to it (HTTP 403: Resource",
        ),
        ("/zip", Answer(403, {"message": "You need scope"}), "give it the permission Actions: read of o/r"),
        (
            "",
            Answer(404, {"message": "Not Found"}),
            "(HTTP 404: Not Found): the id or the repository is wrong, or the token",
        ),
        ("", Answer(body=description(expired=True)), "it has expired on 2026-03-01T00:00:00Z; run its workflow again"),
        ("/zip", Answer(410, {"message": "Artifact has expired"}), "it has expired; run its workflow again"),
        ("", Answer(body={"hello": "portal"}), "does not answer as GitHub's API does; check GITHUB_API_URL"),
        ("", Answer(body=[]), "does not answer as GitHub's API does"),
        ("", Answer(body=b"<html>"), "gave no whole answer in 5 tries; the last: JSONDecodeError"),
        ("", Answer(500, {"message": f"no {TOKEN} here"}), "the last: HTTP 500: no *** here; run again later"),
        ("/zip", Answer(302, headers={"Location": "/repos/o/r/actions/artifacts/7/zip"}), "redirects without end"),
        ("/zip", Answer(302, headers={"Location": "ftp://h/x"}), "redirects to an address that is none"),
        ("/zip", Answer(302, headers={"Location": "http://h:x/"}), "redirected to an address that is none"),
        ("", Answer(body=description(digest="sha256:" + "0" * 64)), f"and GitHub says {'0' * 64}"),
    ],
)
def test_each_refusal_has_its_own_line(
    tmp_path: Path, github: FakeServer, store: FakeServer, end: str, answer: Answer, said: str
) -> None:
    store.answers["/zip"] = Answer(body=zipped({"demo-1.0-py3-none-any.whl": wheel_bytes(tmp_path / "made")}))
    github.answers[ARTIFACT + end] = answer
    told = not_had(tmp_path / "cache")
    assert told.startswith("artifact 7 of o/r: ")
    assert said in told


def test_the_store_is_not_github(tmp_path: Path, github: FakeServer, store: FakeServer) -> None:
    store.answers["/zip"] = Answer(403, b"<Error>AuthenticationFailed</Error>")
    assert "AuthenticationFailed" in not_had(tmp_path)
    store.answers["/zip"] = Answer(body=b"x" * 100, cut=10)
    assert "the last: the connection ended before the answer was whole" in not_had(tmp_path)
    assert github.asked("/zip")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GITHUB_TOKEN", "", "GitHub gives artifacts to known users only; set GH_TOKEN or GITHUB_TOKEN"),
        ("GITHUB_TOKEN", f"{TOKEN}\nx", "GITHUB_TOKEN holds a space, a line break"),
        ("GH_TOKEN", f"{TOKEN} {TOKEN}", "GH_TOKEN holds a space, a line break"),
    ],
)
def test_a_token_that_cannot_be_one_is_told_before_anything_is_asked(
    tmp_path: Path, github: FakeServer, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert said in not_had(tmp_path)
    assert github.requests == []


def test_a_repository_has_a_name_of_two_parts(tmp_path: Path, github: FakeServer) -> None:
    assert "has to be owner/name" in refused("artifact:7", tmp_path, repository="mooncake")
    assert github.requests == []


# --- what is in the zip file


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no wheel in it (but nothing); take another"),
        ({"build.log": b""}, "there is no wheel in it (but build.log)"),
        ({"../../demo-1.0-py3-none-any.whl": b""}, "it holds '../../demo-1.0-py3-none-any.whl', which leads outside"),
        ({"/etc/demo-1.0-py3-none-any.whl": b""}, "which leads outside"),
        ({"..\\demo-1.0-py3-none-any.whl": b""}, "which leads outside"),
        ({"a/demo-1.0-py3-none-any.whl": b"", "b/demo-1.0-py3-none-any.whl": b""}, "two files called demo-1.0"),
    ],
)
def test_an_artifact_without_a_wheel_to_trust_is_refused(
    tmp_path: Path, github: FakeServer, store: FakeServer, files: dict[str, bytes], said: str
) -> None:
    store.answers["/zip"] = Answer(body=zipped(files))
    assert said in not_had(tmp_path / "inner" / "cache")
    assert list(tmp_path.rglob("*.whl")) == []
    assert github.asked("/zip")


def test_a_zip_file_that_is_none_is_told(tmp_path: Path, github: FakeServer, store: FakeServer) -> None:
    store.answers["/zip"] = Answer(body=b"<html>log in</html>")
    assert "what came is no whole zip file (File is not a zip file)" in not_had(tmp_path)
    whole = zipped({"demo-1.0-py3-none-any.whl": b"content of a wheel"})
    store.answers["/zip"] = Answer(body=whole.replace(b"content", b"CONTENT"))
    assert "what came is no whole zip file (Bad CRC-32" in not_had(tmp_path)
    assert github.asked("/zip")


def test_wheels_that_do_not_fit_on_the_disk_are_not_unpacked(
    tmp_path: Path, github: FakeServer, store: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.answers["/zip"] = Answer(body=zipped({"demo-1.0-py3-none-any.whl": b"x" * 100}))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=99))
    assert "its wheels need more than the 0 MiB that are free" in not_had(tmp_path)
    assert github.asked("/zip")


def test_the_choice_is_made_at_each_run(tmp_path: Path, github: FakeServer, store: FakeServer) -> None:
    content = wheel_bytes(tmp_path)
    store.answers["/zip"] = Answer(body=zipped(dict.fromkeys(SEVERAL[:3], content)))
    for tag, machine, name in (("cp310", "", SEVERAL[0]), ("cp312", "aarch64", SEVERAL[1])):
        assert Path(artifact(tmp_path / "cache", python_tag=tag, machine=machine)["file"]).name == name
    assert len(github.asked("/zip")) == 1
