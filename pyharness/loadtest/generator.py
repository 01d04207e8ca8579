"""The load generator: aiperf, in an environment of its own, one start for each point of a sweep."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyharness import environments, paths, temporary

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyharness.loadtest.plan import Load, Turn

ENVIRONMENT = "aiperf"
# Of one request. What takes longer is an error, and is counted as one.
REQUEST_SECONDS = 60
# For the start and the end of aiperf's own processes: 8 seconds on two idle cores, 25 where other work has them.
_AROUND_SECONDS = 180
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 10
# Prompts of a point that is measured by time. Where they do not last they are sent again, and the cached tokens say so.
_PROMPTS_BY_TIME = 2000
# aiperf refuses a tokenizer's folder where these are set; a folder needs no network, so nothing is lost without them.
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class Target:
    """What the load is for.

    Attributes:
        url: of the service that speaks OpenAI's HTTP, without a path.
        model: as it is served.
        tokenizer: a folder, or a name at Hugging Face.
    """

    url: str
    model: str
    tokenizer: str


@dataclass(frozen=True)
class Ended:
    """How a start of aiperf ended.

    Attributes:
        code: its exit code; None if it was ended because it took too long.
        seconds: from its start to its end.
        last: the last that it said of what went wrong, in one line.
    """

    code: int | None
    seconds: float
    last: str


@dataclass(frozen=True)
class Generator:
    """aiperf as it is installed here."""

    program: Path
    version: str

    def run(self, turn: Turn, load: Load, target: Target, folder: Path, interrupted: Callable[[], None]) -> Ended:
        """Put the load of one turn on a service.

        Args:
            turn: what to measure.
            load: how much of it.
            target: where.
            folder: takes what aiperf writes, and its output as console.log.
            interrupted: called several times a second; what it raises ends the load.

        Raises:
            OSError: aiperf cannot be started, or the folder not be written.
        """
        folder.mkdir(parents=True)
        command = [str(self.program), *arguments(turn, load, target, folder)]
        started = time.monotonic()
        deadline = started + allowed_seconds(turn, load)
        # It leaves its prompts in the folder for temporary files.
        with temporary.folder("load") as scratch, (folder / "console.log").open("w", encoding="utf-8") as console:
            process = subprocess.Popen(
                command,
                env=environment(scratch, target),
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    interrupted()
                    time.sleep(_LOOK_SECONDS)  # the interval of looking; its end or the deadline decides
                code = process.poll()
            finally:
                _end(process)
        seconds = time.monotonic() - started
        said = (folder / "console.log").read_text(encoding="utf-8", errors="replace")
        return Ended(code, seconds, last_words(said))


def have(tell: Callable[[str], None]) -> Generator:
    """Have aiperf installed.

    Args:
        tell: told what takes long.

    Raises:
        UsageError: it cannot be installed.
    """
    cache = paths.cache()
    found = environments.have(ENVIRONMENT, cache, cache / "environments", tell)
    installed = next(found.packages.glob("aiperf-*.dist-info")).name
    return Generator(found.directory / "bin" / "aiperf", installed.removeprefix("aiperf-").removesuffix(".dist-info"))


def arguments(turn: Turn, load: Load, target: Target, folder: Path) -> list[str]:
    """Return aiperf's arguments (`aiperf profile --help`, 0.13.0).

    Args:
        turn: what to measure.
        load: how much of it.
        target: where.
        folder: takes the results.
    """
    point = turn.point
    requests = load.requests_of(point)
    warm_up = max(2, point.concurrency)
    prompts = _PROMPTS_BY_TIME if requests is None else requests + warm_up
    given = {
        "model": target.model,
        "url": target.url,
        "endpoint-type": "chat",
        "tokenizer": target.tokenizer,
        "concurrency": point.concurrency,
        "synthetic-input-tokens-mean": point.input_tokens,
        "synthetic-input-tokens-stddev": 0,
        "output-tokens-mean": point.output_tokens,
        "output-tokens-stddev": 0,
        # So long and no shorter. Engines that do not know it ignore it, and the mean length of the answers says so.
        "extra-inputs": "ignore_eos:true",
        "num-dataset-entries": prompts,
        "dataset-sampling-strategy": "sequential",
        "warmup-request-count": warm_up,
        "random-seed": turn.seed,
        "request-timeout-seconds": REQUEST_SECONDS,
        "artifact-dir": folder,
        "ui": "none",
    }
    if requests is None:
        given |= {"benchmark-duration": load.seconds, "benchmark-grace-period": REQUEST_SECONDS}
    else:
        given |= {"request-count": requests}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["profile", *words, "--streaming", "--no-server-metrics", "--no-gpu-telemetry"]


def environment(scratch: Path, target: Target) -> dict[str, str]:
    """Return the environment that aiperf runs in.

    Args:
        scratch: for its temporary files.
        target: what it is to talk to.
    """
    result = {**os.environ, "TMPDIR": str(scratch), "HF_HUB_DISABLE_TELEMETRY": "1"}
    if Path(target.tokenizer).is_dir():
        for name in _OFFLINE:
            result.pop(name, None)
    # Another virtual environment's packages are not its.
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        result.pop(name, None)
    return result


def allowed_seconds(turn: Turn, load: Load) -> float:
    """Return how long a turn may take, if each of its requests takes as long as a request may."""
    requests = load.requests_of(turn.point)
    if requests is None:
        return _AROUND_SECONDS + (load.seconds or 0) + 2 * REQUEST_SECONDS
    rounds = 1 + -(-requests // turn.point.concurrency)  # and the warm-up
    return _AROUND_SECONDS + rounds * REQUEST_SECONDS


def last_words(said: str) -> str:
    """Return what aiperf says of why it ended: its box of errors, or its last line."""
    reasons = re.findall(r"Reason:\s*(.+?)(?=│\s*\n│ •|╰|│\s+Cause:)", said, re.DOTALL)
    text = reasons[0].replace("│", " ") if reasons else next((x for x in reversed(said.splitlines()) if x.strip()), "")
    return " ".join(text.split())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End aiperf and all that it started, which are its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        # Where it has ended by itself there may still be others of its group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_SECONDS)
