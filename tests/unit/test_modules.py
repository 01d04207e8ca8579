"""The collection's modules that provision, run as Ansible runs them, in this process."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.disagg.e2e.plugins.lookup.tree import LookupModule
from ansible_collections.disagg.e2e.plugins.modules import cached_build, engine_env, node_info, wheel_overlay
from tests.unit.builders import write_wheel
from tests.unit.module_runner import run

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

ADDRESS = "127.0.0.42"


# ---------------------------------------------------------------- node_info


def test_node_info_tells_what_a_node_has(tmp_path: Path) -> None:
    with socket.create_server((ADDRESS, 0)) as listening:
        port = listening.getsockname()[1]
        result = run(
            node_info,
            address=ADDRESS,
            ports=[port],
            libraries=["libc.so.6", "libnothing-of-the-kind.so.9"],
            path=str(tmp_path / "not" / "yet"),
        )
    assert result["listeners"][0]["process"]["pid"] == os.getpid()
    assert result["missing_libraries"] == ["libnothing-of-the-kind.so.9"]
    assert result["free_bytes"] > 0
    assert result["memory_available_bytes"] > 0
    assert result["is_local_address"] is True
    assert (result["user_id"], result["changed"]) == (os.getuid(), False)


@pytest.mark.parametrize("address", ["192.0.2.1", "no such name"])
def test_node_info_knows_an_address_that_is_not_the_nodes(address: str) -> None:
    assert run(node_info, address=address, path="/")["is_local_address"] is False


# ---------------------------------------------------------------- cached_build


def build(folder: Path, code: str, result: str | None = "out.json", **changes: Any) -> dict[str, Any]:
    command = [sys.executable, "-c", code, "{out}"]
    one = {"name": "thing", "key": ["a", 1], "command": command, "result": result}
    return run(cached_build, cache_dir=str(folder), builds=[{**one, **changes}], environment={"GREETING": "hello"})


WRITE = "import os, sys; open(sys.argv[1] + '/out.json', 'w').write('{\"said\": \"%s\"}' % os.environ['GREETING'])"


def test_a_build_is_made_once(tmp_path: Path) -> None:
    first = build(tmp_path, WRITE)
    assert first["changed"] is True
    (made,) = first["builds"]
    assert made["result"] == {"said": "hello"}
    assert Path(made["directory"]).name == f"thing-{made['key']}"
    second = build(tmp_path, "raise SystemExit(1)")
    assert second["changed"] is False
    assert second["builds"] == [{**made, "made": False}]
    assert build(tmp_path, WRITE, key="other")["changed"] is True


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('no weights')", "thing: exit status 1 of"),
        ("raise SystemExit('no weights')", "no weights"),
        ("pass", "thing: the command ended well without writing out.json"),
    ],
)
def test_a_build_that_fails_is_told_and_leaves_nothing(tmp_path: Path, code: str, said: str) -> None:
    result = build(tmp_path, code)
    assert result["failed"] is True
    assert said in result["msg"]
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_a_build_whose_program_is_not_there(tmp_path: Path) -> None:
    result = build(tmp_path, "", command=["/no/such/program", "x"])
    assert result["failed"] is True
    assert "No such file or directory: '/no/such/program'" in result["msg"]


# ---------------------------------------------------------------- wheel_overlay


def test_a_wheel_is_unpacked_once_beside_the_environment(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {"demo/__init__.py": b"WHO = 'the wheel'\n"})
    given: dict[str, Any] = {
        "file": str(wheel),
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "python": [sys.executable],
        "target": "here",
        "cache_dir": str(tmp_path / "cache"),
    }
    first = run(wheel_overlay, **given)
    assert first["changed"] is True
    assert (Path(first["directory"]) / "demo" / "__init__.py").read_text() == "WHO = 'the wheel'\n"
    assert run(wheel_overlay, **given) == {**first, "changed": False}
    wheel.unlink()
    assert run(wheel_overlay, **given) == {**first, "changed": False}, "what is installed needs no wheel any more"
    assert run(wheel_overlay, **{**given, "target": "elsewhere"})["missing"] is True


def test_a_wheel_whose_version_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    honest = write_wheel(tmp_path, {"demo/__init__.py": b""})
    wheel = honest.rename(tmp_path / "demo-2.0-py3-none-any.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    given: dict[str, Any] = {"file": str(wheel), "sha256": digest, "target": "here", "cache_dir": str(tmp_path / "c")}
    result = run(wheel_overlay, python=[sys.executable], **given)
    assert result["failed"] is True
    assert "cannot be installed with here" in result["msg"]
    assert not [path for path in (tmp_path / "c").iterdir() if path.is_dir()], "nothing half made stays"


def test_a_wheel_that_changed_on_its_way_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, {"demo/__init__.py": b""})
    given: dict[str, Any] = {"file": str(wheel), "sha256": "0" * 64, "target": "here", "cache_dir": str(tmp_path / "c")}
    result = run(wheel_overlay, python=[sys.executable], **given)
    assert result["failed"] is True
    assert "it was changed on its way to this node" in result["msg"]


# ---------------------------------------------------------------- engine_env


def test_an_environment_that_is_not_there_is_a_change_in_check_mode(tmp_path: Path) -> None:
    given: dict[str, Any] = {"name": "tools", "requirements": "six==1.17.0", "cache_dir": str(tmp_path)}
    assert run(engine_env, check=True, **given)["changed"] is True
    assert list(tmp_path.iterdir()) == []


def steps(monkeypatch: pytest.MonkeyPatch, *failing: str, pip_config: str = "") -> list[list[str]]:
    """Let the steps of a build be noted only; those with one of the words in them fail."""
    done: list[list[str]] = []

    def step(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        done.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(parents=True)
        status = int(any(word in command for word in failing))
        return subprocess.CompletedProcess(command, status, pip_config if "config" in command else "", "it broke\n")

    monkeypatch.setattr(engine_env, "subprocess", SimpleNamespace(run=step, TimeoutExpired=subprocess.TimeoutExpired))
    return done


def test_an_environment_is_built_once_and_its_path_follows_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = steps(monkeypatch)
    given: dict[str, Any] = {"name": "tools", "requirements": "six==1.17.0\n", "cache_dir": str(tmp_path)}
    first = run(engine_env, **given, path_files={"a/b.py": "x = 1\n"})
    assert first["changed"] is True
    assert Path(first["python"]) == Path(first["directory"]) / "bin" / "python"
    assert (Path(first["path_dir"]) / "a" / "b.py").read_text() == "x = 1\n"
    (install,) = (command for command in done if "install" in command)
    assert "--no-deps" in install
    assert "--extra-index-url" not in install
    count = len(done)
    assert run(engine_env, **given, path_files={"a/b.py": "x = 1\n"})["changed"] is False
    assert run(engine_env, **given)["path_dir"] == ""
    other = run(engine_env, **given, path_files={"a/b.py": "x = 2\n"})
    assert (other["changed"], other["directory"]) == (True, first["directory"])
    assert other["path_dir"] != first["path_dir"]
    assert len(done) == count, "other files for the path do not build the environment anew"


def test_an_environment_that_cannot_be_built_is_told_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"name": "tools", "requirements": "six==0\n", "cache_dir": str(tmp_path)}
    steps(monkeypatch, "install")
    result = run(engine_env, **given)
    assert result["failed"] is True
    assert result["msg"].startswith(f"environment tools in {tmp_path}/tools-")
    assert "it broke" in result["msg"]
    steps(monkeypatch)
    assert run(engine_env, **given)["changed"] is True


@pytest.mark.parametrize(("dry_run_fails", "extra"), [(True, True), (False, False)])
def test_the_extra_index_is_asked_only_for_what_others_lack(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dry_run_fails: bool,  # noqa: FBT001 (a table's column)
    extra: bool,  # noqa: FBT001
) -> None:
    done = steps(monkeypatch, *(["--dry-run"] if dry_run_fails else []))
    index = {"extra_index_url": "https://index.invalid/simple", "extra_index_for": "torch==2.0+cpu"}
    given: dict[str, Any] = {"name": "tools", "cache_dir": str(tmp_path), **index}
    run(engine_env, **given, requirements="six==1\ntorch==2.0+cpu\n")
    assert ("--extra-index-url" in done[-2]) is extra
    run(engine_env, **given, requirements="six==1\n")
    assert "--extra-index-url" not in done[-2]


def test_uv_is_given_pips_indexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "global.index-url='https://one.invalid/simple'\nglobal.extra-index-url='\\nhttps://two.invalid/s'\n"
    done = steps(monkeypatch, pip_config=config + "global.timeout='60'\n")
    run(engine_env, name="tools", requirements="six==1\n", cache_dir=str(tmp_path), uv=sys.executable)
    (install,) = (command for command in done if command[:2] == [sys.executable, "pip"])
    assert install[install.index("--default-index") + 1] == "https://one.invalid/simple"
    assert install[install.index("--index") + 1] == "https://two.invalid/s"
    assert install[install.index("--index-strategy") + 1] == "unsafe-best-match"
    assert "60" not in install


# ---------------------------------------------------------------- lookup


def test_a_tree_is_its_text_files(tmp_path: Path) -> None:
    for name in ("a.py", "b/c.txt", "b/__pycache__/x.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = LookupModule().run([str(tmp_path), str(tmp_path / "none")])
    assert found == [{"a.py": "a.py", "b/c.txt": "b/c.txt"}, {}]
