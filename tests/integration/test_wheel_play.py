"""An artifact of GitHub Actions through ansible-playbook: no output, file or command line has the token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyharness import paths
from tests.unit.builders import write_wheel
from tests.unit.fake_http import Answer, FakeServer, Request, serving
from tests.unit.test_wheel_sources import SIGNATURE, TOKEN, description, zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

PLAY = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - disagg.e2e.wheel_file:
        source: artifact:7
        repository: o/r
        package: demo
        cache_dir: "{{ cache }}"
      register: found
    - ansible.builtin.debug:
        var: found
"""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[FakeServer, list[str]]]:
    """Return a GitHub with artifact 7 of o/r, and the command lines of all processes while it is being fetched."""
    commands: list[str] = []
    made = tmp_path / "made"
    made.mkdir()
    content = write_wheel(made, {"demo/__init__.py": b""}).read_bytes()
    with serving("127.41.3.1") as github, serving("127.41.3.2") as store:

        def archive(_request: Request) -> Answer:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    commands.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
                except OSError:
                    continue  # it has ended
            return Answer(body=zipped({"demo-1.0-py3-none-any.whl": content}))

        github.answers["/repos/o/r/actions/artifacts/7"] = Answer(body=description())
        where = {"Location": f"{store.url}/zip?sig={SIGNATURE}"}
        github.answers["/repos/o/r/actions/artifacts/7/zip"] = Answer(302, headers=where)
        store.answers["/zip"] = archive
        yield github, commands


def play(folder: Path, github: FakeServer) -> subprocess.CompletedProcess[str]:
    (folder / "play.yml").write_text(PLAY)
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-vvvv", "-i", "localhost,", "-c", "local"]
    command += ["-e", json.dumps({"cache": str(folder / "cache")}), str(folder / "play.yml")]
    environment = {
        **os.environ,
        "GITHUB_API_URL": github.url,
        "GH_TOKEN": TOKEN,
        "ANSIBLE_CONFIG": str(paths.PROJECT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(paths.PROJECT),
        "ANSIBLE_LOG_PATH": str(folder / "ansible.log"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_DEBUG": "0",
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def secrets_in(folder: Path, *texts: str) -> list[str]:
    """Return where one of the planted secrets is."""
    files = [(str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    everything = [*files, *((text[:80], text.encode()) for text in texts)]
    return [where for where, content in everything if TOKEN.encode() in content or SIGNATURE.encode() in content]


def test_the_token_is_nowhere(tmp_path: Path, servers: tuple[FakeServer, list[str]]) -> None:
    github, commands = servers
    done = play(tmp_path, github)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"origin": "artifact 7 of o/r"' in done.stdout
    assert commands
    assert secrets_in(tmp_path, done.stdout, done.stderr, *commands) == []
    asked = len(github.requests)
    again = play(tmp_path, github)
    assert "changed=0" in again.stdout
    assert len(github.requests) == asked


def test_a_failure_does_not_tell_it_either(tmp_path: Path, servers: tuple[FakeServer, list[str]]) -> None:
    github, _commands = servers
    refusal = Answer(401, {"message": f"no {TOKEN}"})
    github.answers["/repos/o/r/actions/artifacts/7/zip"] = refusal
    done = play(tmp_path, github)
    assert done.returncode == 2
    assert "GitHub does not accept the token (HTTP 401: no ***)" in done.stdout + done.stderr
    assert secrets_in(tmp_path, done.stdout, done.stderr) == []
