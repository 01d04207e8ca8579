"""A site with canaries wherever a secret may come from, and the search for them in every byte that comes out."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import paths

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site

CASE = "test_1p1d_erdma"
QWEN = "Qwen/Qwen3-8B"

# Every Python of a run prints its environment in several ways, has a secret of its own that nobody gave it, and sends
# secret headers with every answer.
SITECUSTOMIZE = """
import base64, json, os, sys, urllib.parse
if os.environ.get("DISAGG_E2E_SERVICE", "supervisord") != "supervisord":
    os.environ["NODE_DB_PASSWORD"] = {own!r}
    key = os.environ["OPENAI_API_KEY"]
    print("env", dict(os.environ), flush=True)
    print(json.dumps(dict(os.environ)), flush=True)
    print("\\n".join(f"{{name}}={{value}}" for name, value in os.environ.items()), flush=True)
    print("Basic", base64.b64encode(f"user:{{key}}".encode()).decode(), urllib.parse.quote(key, safe=""), flush=True)
    print(os.environ["LATE_API_KEY"], flush=True)
    import http.server
    plain = http.server.BaseHTTPRequestHandler.end_headers
    def end_headers(handler):
        handler.send_header("Set-Cookie", "session=" + {cookie!r})
        handler.send_header("X-Api-Key", {header!r})
        plain(handler)
    http.server.BaseHTTPRequestHandler.end_headers = end_headers
"""
# The command line without the place that hides secrets.
WITHOUT_REDACTION = """
import sys
from pyharness import cli, redaction
redaction.Redactor._spans = lambda self, data: []
redaction.Redactor.redact_value = redaction.redact_value = lambda *given: given[-1 if len(given) == 1 else 0]
redaction.Redactor.redact_json = redaction.redact_json = lambda *given: given[-1]
sys.exit(cli.main())
"""


def cores(value: str) -> set[bytes]:
    """Return what base64 makes of a value wherever it lies in what is encoded."""
    raw, result = value.encode(), set()
    for offset in range(3):
        coded = base64.b64encode(b"-" * offset + raw + b"---")
        core = coded[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
        result |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return result


@dataclass
class Canaries:
    """The canaries of one test, by where they are planted."""

    values: dict[str, str] = field(default_factory=dict)

    def plant(self, where: str, extra: str = "") -> str:
        """Return a new canary. `extra` are letters that encodings change; without them is looked for as well."""
        self.values[where] = f"c4n4ry{secrets.token_hex(10)}{extra}"
        return self.values[where]

    def found(self, data: bytes) -> set[str]:
        """Return which are in some bytes, in whatever encoding."""
        dense = re.sub(rb"\s+", b"", data)
        result = set()
        for where, value in self.values.items():
            stem = value[6:26]  # letters and digits: the same in every encoding of a text
            needles = {stem.encode(), *cores(value), *cores(stem)}
            if any(needle in text for needle in needles for text in (data, dense)):
                result.add(where)
        return result

    def in_files(self, folder: Path) -> dict[str, set[str]]:
        """Return which are in which files below a folder."""
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        found = {str(path.relative_to(folder)): self.found(path.read_bytes()) for path in files}
        return {name: names for name, names in found.items() if names}


@dataclass
class Ran:
    """What a run of the command line left, but for its files."""

    pid: int
    status: int
    stdout: bytes
    stderr: bytes
    command_lines: set[bytes]


@dataclass
class Planted:
    """A site with canaries in its inventory and in the environment."""

    site: Site
    canaries: Canaries
    environment: dict[str, str]

    def run(self, *arguments: str, program: tuple[str, ...] = ("-m", "pyharness"), stop_at: str = "") -> Ran:
        """Run the command line, and look at all command lines of the machine meanwhile.

        Args:
            arguments: of the command line.
            program: what Python runs.
            stop_at: send SIGINT when this is told on standard error.
        """
        command = [sys.executable, *program, *arguments]
        process = subprocess.Popen(
            command,
            env={**os.environ, **self.environment},
            cwd=paths.PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        seen: set[bytes] = set()
        over = threading.Event()
        watching = threading.Thread(target=_watch, args=(seen, over))
        watching.start()
        assert process.stderr is not None
        told = b""
        for line in process.stderr:
            told += line
            if stop_at and stop_at.encode() in line:
                process.send_signal(signal.SIGINT)
                stop_at = ""
        stdout, _none = process.communicate()
        over.set()
        watching.join()
        # What the caller wrote there himself, also in a child that has not become another program yet.
        seen.discard("\0".join([*command, ""]).encode())
        return Ran(process.pid, process.returncode, stdout, told, seen)

    def arguments(self, *more: str) -> list[str]:
        """Return the arguments of a run with a secret variable among them."""
        secret = json.dumps(self.canaries.values["extra-vars"])
        return ["-i", str(self.site.inventory), "-e", f"my_password={secret}", *more]

    def assert_clean(self, ran: Ran) -> None:
        """Check that no canary got out."""
        assert self.canaries.found(ran.stdout) == set(), ran.stdout.decode()
        assert self.canaries.found(ran.stderr) == set(), ran.stderr.decode()
        assert self.canaries.found(b"\n".join(ran.command_lines)) == set()
        assert self.canaries.in_files(self.site.results) == {}

    def results(self) -> Path:
        return self.site.results / CASE


def _watch(seen: set[bytes], over: threading.Event) -> None:
    while not over.wait(0.05):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                seen.add(path.read_bytes())


def plant_all(site: Site, tmp_path: Path) -> Planted:
    """Return a site with canaries in environment, inventory, services, headers and variables."""
    canaries = Canaries()
    plant = canaries.plant
    plant("extra-vars", "'/+é \"")
    folder = tmp_path / "printing"
    folder.mkdir()
    own, cookie, header = plant("a service's own"), plant("cookie"), plant("header")
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(own=own, cookie=cookie, header=header))
    (variables,) = (site.inventory / "group_vars").glob("all*")
    variables = variables / "main.yml" if variables.is_dir() else variables
    planted_variables = {
        "disagg_registry_password": plant("registry", "'/+"),
        "ansible_become_password": plant("become"),
        "disagg_environment": {
            "OPENAI_API_KEY": plant("service", "/+%&<"),
            "INDEX": f"https://u:{plant('index')}@h/x",
            "LATE_API_KEY": "{{ lookup('env', 'LATE') }}",
        },
        "disagg_pythonpath": [str(paths.PROJECT), str(folder)],
    }
    lines = [
        line
        for line in variables.read_text().splitlines()
        if not line.startswith(("disagg_environment:", "disagg_pythonpath:"))
    ]
    lines += [f"{name}: {json.dumps(value)}" for name, value in planted_variables.items()]
    variables.write_text("\n".join(lines) + "\n")
    environment = {
        "LATE": plant("known to Ansible only", "/+"),
        "GITHUB_TOKEN": plant("GITHUB_TOKEN"),
        "HF_TOKEN": plant("HF_TOKEN", "/+"),
        "DISAGG_REGISTRY_PASSWORD": plant("DISAGG_REGISTRY_PASSWORD", "'"),
        "AWS_SECRET_ACCESS_KEY": plant("AWS", "/+="),
        "SOME_URL": f"https://user:{plant('url password')}@example.org/x?token={plant('url token')}",
    }
    return Planted(site, canaries, environment)


def unpack(archive: Path, into: Path) -> None:
    into.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", into], check=True)
