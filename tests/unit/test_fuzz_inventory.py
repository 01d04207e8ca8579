"""Malformed inventories: refused in one line before anything is begun, whatever is wrong with their files.

Ansible's own program reads each example, in a fork of this process, which has loaded it once: that takes a tenth of the
time of a program started anew. What only a playbook finds out, and a sample of these through the real program, is in
tests/sabotage/test_malformed_inventories.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import yaml
from testinfra.utils import ansible_runner

from pyharness import cli, lease, paths
from tests.unit.fuzzing import FEW_AND_MANY, fuzz, mutated, one_line, yaml_bytes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_1p1d_erdma"
HOSTS = """\
all:
  children:
    prefill_nodes:
      hosts:
        prefill: {ansible_host: 127.0.50.91}
    decode_nodes:
      hosts:
        decode: {ansible_host: 127.0.50.92}
"""


class Begun(BaseException):  # no error of the run's, which it would make a failure of
    """The first node would have been asked now: the inventory can be read, and has the groups."""


def _begin(*_arguments: Any, **_options: Any) -> NoReturn:
    raise Begun


def _read_in_a_fork(_config: Any, inventory: str) -> Any:
    """Stand in for testinfra's reading of an inventory: the same program, its output and the same error."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _run_inventory_program(inventory, out.fileno(), err.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        if code != 0:
            message = f"Unexpected exit code {code} for CommandResult(_stderr={err.read()!r})"
            raise AssertionError(message)
        return json.loads(out.read())


def _run_inventory_program(inventory: str, out: int, err: int) -> NoReturn:
    code = 250
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        from ansible.cli.inventory import InventoryCLI  # noqa: PLC0415 (what it sets up is this process's alone)

        InventoryCLI.cli_executor(["ansible-inventory", "--list", "-i", inventory])
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@pytest.fixture
def inventory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an inventory of the simulator, read in forks; a node that would be asked raises `Begun`."""
    folder = tmp_path / "inventory"
    shutil.copytree(paths.INVENTORIES / "simulator" / "group_vars", folder / "group_vars")
    (folder / "hosts.yml").write_text(HOSTS)
    monkeypatch.setenv("ANSIBLE_CONFIG", str(paths.PROJECT / "ansible.cfg"))
    monkeypatch.setattr(paths, "use_project_ansible", lambda: None)
    monkeypatch.setattr(ansible_runner, "get_ansible_inventory", _read_in_a_fork)
    monkeypatch.setattr(lease.Leases, "take", _begin)
    return folder


def _refused(inventory: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> str | None:
    """Run the main job on an inventory. Returns its one line; None if the inventory can be read."""
    with contextlib.suppress(Begun):
        code = cli.main([CASE, "-i", str(inventory), "--results", str(results), "-q"])
        told = capsys.readouterr()
        assert code == 2
        assert told.out == ""
        assert json.loads((results / CASE / "test_results.json").read_text())["status"] == "Fail"
        return one_line(told.err)
    capsys.readouterr()
    return None


@FEW_AND_MANY
@pytest.mark.parametrize("file", ["hosts.yml", "group_vars/all.yml"])
def test_a_malformed_file_is_one_line(
    file: str, examples: int, inventory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = inventory / file
    real = path.read_text(encoding="utf-8")
    seen = set()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        told = _refused(inventory, tmp_path / "run", capsys)
        if told is not None:
            seen.add(content)
            assert str(inventory) in told
            assert "Unexpected exit code" not in told, "Ansible's own words, not those of who called it"

    fuzz(examples // 2, yaml_bytes(mutated(yaml.safe_load(real)), real), check)
    assert len(seen) > examples / 10, "hardly anything was refused: the examples are too tame"


def _without_hosts(inventory: Path) -> None:
    (inventory / "hosts.yml").unlink()


def _a_folder_for_a_file(inventory: Path) -> None:
    _without_hosts(inventory)
    (inventory / "hosts.yml").mkdir()


def _a_broken_link(inventory: Path) -> None:
    _without_hosts(inventory)
    (inventory / "hosts.yml").symlink_to("nowhere")


def _a_link_to_itself(inventory: Path) -> None:
    _without_hosts(inventory)
    (inventory / "hosts.yml").symlink_to("hosts.yml")


def _a_vault(inventory: Path) -> None:
    (inventory / "group_vars" / "all.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n" + "3" * 80 + "\n")


def _an_unknown_plugin(inventory: Path) -> None:
    (inventory / "hosts.yml").write_text("plugin: no.such.plugin\n")


def _an_empty_group(inventory: Path) -> None:
    (inventory / "hosts.yml").write_text("all: {children: {prefill_nodes: {hosts: {a: }}, decode_nodes: }}\n")


def _a_group_less(inventory: Path) -> None:
    (inventory / "hosts.yml").write_text("all: {children: {prefill_nodes: {hosts: {a: }}}}\n")


def _a_loop_of_groups(inventory: Path) -> None:
    (inventory / "hosts.yml").write_text("a: {children: {b: }}\nb: {children: {a: }}\n")


@pytest.mark.pre_merge
@pytest.mark.parametrize(
    "damage",
    [
        _without_hosts,
        _a_folder_for_a_file,
        _a_broken_link,
        _a_link_to_itself,
        _a_vault,
        _an_unknown_plugin,
        _an_empty_group,
        _a_group_less,
        _a_loop_of_groups,
    ],
)
def test_a_damaged_folder_is_one_line(
    damage: Any, inventory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(inventory)
    told = _refused(inventory, tmp_path / "run", capsys)
    assert told is not None
    assert str(inventory) in told


@pytest.mark.pre_merge
def test_what_is_refused_here_can_be_read_otherwise(
    inventory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _refused(inventory, tmp_path / "run", capsys) is None
