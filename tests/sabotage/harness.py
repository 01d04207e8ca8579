"""The harness as a process of its own, as a person or a CI runs it, so that it can be stopped and killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import paths

if TYPE_CHECKING:
    from tests.sabotage.conftest import Site


def wait_for(condition: Any, what: str, seconds: float = 30.0) -> None:
    """Wait for a condition, and fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


class Harness:
    """The harness as a process, as a person or a CI runs it."""

    def __init__(self, site: Site, *arguments: str) -> None:
        self.site = site
        command = [sys.executable, "-m", "pyharness", "test_1p1d_erdma", "-i", str(site.inventory)]
        command += ["--results", str(site.results), "--model", "Qwen/Qwen3-8B", *arguments]
        self.process = subprocess.Popen(
            command,
            cwd=paths.PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.seen = ""

    def wait_until(self, text: str) -> None:
        """Read progress until a line holds `text`."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.seen += line
            if text in line:
                return
        pytest.fail(f"{text!r} was never told:\n{self.seen}")

    def end(self) -> tuple[int, str]:
        """Wait for its end. Returns exit code and standard output."""
        output, rest = self.process.communicate(timeout=180)
        self.seen += rest
        return self.process.returncode, output

    @property
    def run_id(self) -> str:
        return str(json.loads((self.site.results / "test_1p1d_erdma" / "report.json").read_text())["run_id"])


def take_down(site: Site, run: str) -> str:
    """Take a run down by the verb. Returns what it says."""
    command = [sys.executable, "-m", "pyharness", "teardown", "-i", str(site.inventory), "--run", run]
    command += ["--results", str(site.results)]
    done = subprocess.run(command, cwd=paths.PROJECT, capture_output=True, text=True, check=True)
    return done.stdout
