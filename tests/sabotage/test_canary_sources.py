"""No secret in what Ansible says and in what a server answers; and the search for canaries finds each encoding."""

from __future__ import annotations

import base64
import json
import os
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from pyharness import paths, redaction
from pyharness.exercise import get
from pyharness.interrupt import Interrupt
from pyharness.playbook import PlaybookRunner
from pyharness.sending import Sender
from pyharness.verification.node_probe import Nodes
from tests.sabotage.canaries import Canaries, Planted, plant_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.sabotage.conftest import Site

pytestmark = [pytest.mark.pre_merge, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]


@pytest.fixture
def planted(site: Site, tmp_path: Path) -> Planted:
    """Return a site with canaries in environment, inventory, services, headers and variables."""
    return plant_all(site, tmp_path)


PLAYBOOK = """
- name: Fail, and show the arguments
  hosts: all
  gather_facts: false
  tasks:
    - name: Ask with a key
      ansible.builtin.command:
        argv: [sh, -c, "echo $0 $1; exit 1", "Authorization: Bearer {{ my_key }}", "{{ lookup('env', 'SOME_SECRET') }}"]
"""


def test_a_task_of_ansible_that_fails_with_its_arguments(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", planted.canaries.plant("looked up", "'/+"))
    (tmp_path / "fail.yml").write_text(PLAYBOOK)
    monkeypatch.setattr(paths, "PLAYBOOKS", tmp_path)
    runner = PlaybookRunner(planted.site.inventory, planted.site.results, lambda: False)
    planted.site.results.mkdir()
    try:
        # A run of its own: without one it is "manual", which any teardown beside this test would end.
        variables = {"my_key": planted.canaries.plant("key", '"/+'), "disagg_run": f"canary-{os.getpid()}"}
        outcome = runner.run("fail.yml", variables, label="fail", timeout=60)
    finally:
        redaction.forget()
    assert outcome.status == "failed"
    assert planted.canaries.in_files(planted.site.results) == {}
    assert planted.canaries.found(outcome.output.encode()) == set()
    assert planted.canaries.found(str(outcome.failures).encode()) == set()
    assert "<redacted: " in (planted.site.results / "fail.log").read_text()


class Echo(BaseHTTPRequestHandler):
    """A server that repeats what is secret, in headers and body."""

    def __init__(self, canaries: Mapping[str, str], *given: object) -> None:
        self._canaries = canaries
        super().__init__(*given)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        body = json.dumps({"headers": {"Authorization": f"Bearer {self._canaries['bearer']}"}}).encode()
        self.send_response(401)
        self.send_header("Set-Cookie", f"id={self._canaries['cookie']}; Path=/")
        self.send_header("WWW-Authenticate", "Basic")
        self.send_header(
            "Proxy-Authorization", "Basic " + base64.b64encode(f"u:{self._canaries['basic']}".encode()).decode()
        )
        self.send_header(
            "Location", f"https://h/x?X-Amz-Signature={self._canaries['signed']}&token={self._canaries['token']}"
        )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_given: object) -> None:
        """Say nothing."""


@pytest.fixture
def echo() -> Iterator[tuple[str, Canaries]]:
    canaries = Canaries()
    for name in ("bearer", "cookie", "basic", "signed", "token"):
        canaries.plant(name)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Echo, canaries.values))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", canaries
    server.shutdown()
    server.server_close()
    thread.join()


def test_headers_of_an_answer(echo: tuple[str, Canaries], tmp_path: Path) -> None:
    url, canaries = echo
    send = Sender(Nodes(tmp_path), [], tmp_path / "curl_response.log", Interrupt(), lambda _exchange: None)
    exchange = send(f"{url}/generate", {"text": "hello"}, 10)
    assert canaries.found(exchange.transcript().encode()) == set(canaries.values)  # the server did say them
    assert canaries.in_files(tmp_path) == {}
    assert "hello" in (tmp_path / "curl_response.log").read_text()
    assert get(url, 1).status == 501


def test_every_encoding_is_searched_for() -> None:
    canaries = Canaries()
    value = canaries.plant("x", "'/+")
    for text in (value, json.dumps(value), quote(value, safe=""), f"{value[:12]}\n   {value[12:]}"):
        assert canaries.found(text.encode()) == {"x"}
    for prefix in ("", "u:", "user:"):
        assert canaries.found(base64.b64encode(f"{prefix}{value}:more".encode())) == {"x"}
    assert canaries.found(b"nothing") == set()
