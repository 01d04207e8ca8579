"""GPUs and who holds their memory: doubles of nvidia-smi and docker, and real processes that hold it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.disagg.e2e.plugins.module_utils import gpu
from ansible_collections.disagg.e2e.plugins.modules import gpu_clean, gpu_info
from tests.unit import gpu_doubles
from tests.unit.module_runner import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

OURS, THEIRS = "a" * 64, "b" * 64
# What /proc/PID/cgroup holds for a process in a container.
CGROUPS = {
    "v1 cgroupfs": "12:memory:/docker/{id}\n11:cpu,cpuacct:/docker/{id}\n0::/docker/{id}\n",
    "v1 systemd": "4:memory:/system.slice/docker-{id}.scope\n1:name=systemd:/system.slice/docker-{id}.scope\n",
    "v2 systemd": "0::/system.slice/docker-{id}.scope\n",
    "v2 cgroupfs": "0::/docker/{id}\n",
    "v2 below": "0::/system.slice/docker-{id}.scope/init.scope\n",
    "nested": "0::/docker/" + "c" * 64 + "/docker/{id}\n",
    "nested systemd": "0::/system.slice/docker-" + "c" * 64 + ".scope/system.slice/docker-{id}.scope\n",
}
each_cgroup = pytest.mark.parametrize("form", CGROUPS.values(), ids=CGROUPS)


class Node:
    """A machine with two cards, and containers of two runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run_id = folder, f"unit-{uuid.uuid4().hex[:8]}"
        self.proc = folder / "proc"
        self.processes: list[subprocess.Popen[bytes]] = []
        containers = [
            {"id": OURS, "labels": {"disagg-e2e.run": self.run_id}},
            {"id": THEIRS, "labels": {"disagg-e2e.run": f"{self.run_id}x"}},
        ]
        gpu_doubles.docker(folder / "bin", containers)

    def start(self, cgroup: str | None) -> int:
        """Start a process with a recorded cgroup and return its number."""
        process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "a model"], stdin=-1)
        self.processes.append(process)
        if cgroup is not None:
            path = self.proc / str(process.pid) / "cgroup"
            path.parent.mkdir(parents=True)
            path.write_text(cgroup)
        return process.pid

    def alive(self, pid: int) -> bool:
        return next(process for process in self.processes if process.pid == pid).poll() is None

    def clean(self, held: list[tuple[int, int, int]], *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        smi = gpu_doubles.nvidia_smi(self.folder / "bin", held)
        given = {"run": self.run_id, "nvidia_smi": str(smi), "proc_root": str(self.proc), "timeout": 20}
        return run(gpu_clean, check=check, **{**given, **arguments})


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(gpu_clean, "_POLL_SECONDS", 0.02)
    made = Node(tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------- gpu_info


def test_cards_and_processes_are_told(node: Node) -> None:
    pid = node.start(None)
    smi = gpu_doubles.nvidia_smi(node.folder, [(6, pid, 20312)])
    result = run(gpu_info, nvidia_smi=str(smi))
    assert (result["problem"], result["changed"]) == ("", False)
    assert (result["driver"], result["cuda"]) == ("535.161.08", "12.2")
    assert [(one["index"], one["memory_total_mib"], one["memory_used_mib"]) for one in result["gpus"]] == [
        (0, 23028, 4),
        (6, 23028, 20316),
    ]
    assert (result["gpus"][1]["name"], result["gpus"][1]["uuid"]) == ("NVIDIA A10", gpu_doubles.UUIDS[6])
    (process,) = result["gpus"][1]["processes"]
    assert (process["pid"], process["used_mib"], process["container"]) == (pid, 20312, None)
    assert process["command"].endswith("a model")
    assert process["user"]
    assert [one["index"] for one in run(gpu_info, nvidia_smi=str(smi), indices=[6])["gpus"]] == [6]


@pytest.mark.parametrize(
    ("words", "status", "remedy"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.183", 18, "reboot"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9, "modprobe nvidia"),
        ("No devices were found", 6, "lspci"),
        ("something new", 255, "by hand"),
    ],
)
def test_why_the_cards_cannot_be_asked_is_one_line(tmp_path: Path, words: str, status: int, remedy: str) -> None:
    smi = gpu_doubles.failing(tmp_path, words, status)
    for result in (run(gpu_info, nvidia_smi=str(smi)), run(gpu_clean, nvidia_smi=str(smi), run="unit")):
        assert f"ended with status {status}: {' '.join(words.split())}" in result["problem"]
        assert remedy in result["problem"]
        assert "\n" not in result["problem"]
        assert result["gpus"] == []


def test_a_machine_without_the_driver_is_told_so(tmp_path: Path) -> None:
    missing = str(tmp_path / "nvidia-smi")
    assert run(gpu_info, nvidia_smi=missing)["problem"].startswith(f"{missing} is not there; install the NVIDIA driver")
    (tmp_path / "nvidia-smi").write_text("")
    assert "cannot be run" in run(gpu_info, nvidia_smi=missing)["problem"]


def test_a_card_that_is_not_there_is_named(tmp_path: Path) -> None:
    smi = gpu_doubles.nvidia_smi(tmp_path, [])
    result = run(gpu_info, nvidia_smi=str(smi), indices=[6, 7])
    assert "GPU 7 is not there (there are: 0, 6)" in result["problem"]
    silent = gpu_doubles.program(tmp_path / "silent", "#!/bin/sh\n")
    assert "GPU at least one is not there (there are: none)" in run(gpu_info, nvidia_smi=str(silent))["problem"]


def test_figures_that_are_not_told_are_unknown(tmp_path: Path) -> None:
    text = "#!/bin/sh\ncase $1 in --query-gpu*) echo '0, GPU-1, NVIDIA A10, 23028, [N/A], 550.1';;"
    text += " --query-compute*) echo 'GPU-1, 1, [Insufficient Permissions]';; esac\n"
    smi = gpu_doubles.program(tmp_path / "nvidia-smi", text)
    result = run(gpu_info, nvidia_smi=str(smi))
    assert (result["gpus"][0]["memory_used_mib"], result["cuda"]) == (None, None)
    assert result["gpus"][0]["processes"][0]["used_mib"] is None
    assert "GPU 0: None of 23028 MiB" in run(gpu_clean, nvidia_smi=str(smi), run="unit", timeout=0)["problem"]


@pytest.mark.parametrize("answer", ["0, GPU-1", "one line of another program"])
def test_an_answer_of_another_form_is_refused(tmp_path: Path, answer: str) -> None:
    smi = gpu_doubles.program(tmp_path / "nvidia-smi", f"#!/bin/sh\necho '{answer}'\n")
    assert "is it another one?" in run(gpu_info, nvidia_smi=str(smi))["problem"]


def test_a_process_on_an_unlisted_card_is_no_silence(tmp_path: Path) -> None:
    text = "#!/bin/sh\ncase $1 in --query-gpu*) echo '0, GPU-1, A10, 1, 1, 550.1';;"
    text += " --query-compute*) echo 'GPU-2, 1, 1';; esac\n"
    smi = gpu_doubles.program(tmp_path / "nvidia-smi", text)
    assert "names a process on GPU-2, which it does not list" in run(gpu_info, nvidia_smi=str(smi))["problem"]


# ---------------------------------------------------------------- gpu_clean


@each_cgroup
def test_a_container_is_known_by_its_cgroup(tmp_path: Path, form: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(form.format(id=OURS))
    assert gpu.container_of(7, str(tmp_path)) == OURS


@pytest.mark.parametrize(
    "text",
    [
        "0::/user.slice/user-1000.slice/session-1.scope\n",
        "0::/system.slice/docker.service\n",
        f"0::/system.slice/docker-{'a' * 63}.scope\n",
        f"0::/system.slice/containerd-{OURS}.scope\n",
        "",
    ],
)
def test_what_is_in_no_container_of_docker_has_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(text)
    assert gpu.container_of(7, str(tmp_path)) is None
    assert gpu.container_of(8, str(tmp_path)) is None


def test_free_memory_needs_nothing(node: Node) -> None:
    result = node.clean([])
    assert (result["problem"], result["changed"], result["ended"], result["quarantine"]) == ("", False, [], False)
    assert [one["index"] for one in result["gpus"]] == [0, 6]
    assert "processes" not in result["gpus"][0]


def test_a_little_memory_is_allowed(node: Node) -> None:
    pid = node.start(CGROUPS["v2 systemd"].format(id=OURS))
    assert node.clean([(6, pid, 1020)])["ended"] == []
    assert node.alive(pid)


@each_cgroup
def test_a_process_of_the_run_is_ended(node: Node, form: str) -> None:
    pid = node.start(form.format(id=OURS))
    result = node.clean([(6, pid, 20312)])
    assert (result["problem"], result["changed"]) == ("", True)
    assert [(one["pid"], one["container"]) for one in result["ended"]] == [(pid, OURS)]
    assert not node.alive(pid)


@pytest.mark.parametrize(
    ("cgroup", "container"),
    [
        (CGROUPS["v2 systemd"].format(id=THEIRS), THEIRS[:12]),
        (CGROUPS["v1 cgroupfs"].format(id="d" * 64), "d" * 12),
        ("0::/user.slice/user-1000.slice/session-1.scope\n", "none"),
        (None, "none"),
    ],
    ids=["another run", "another container", "no container", "no cgroup"],
)
def test_a_stranger_is_named_and_left_alone(node: Node, cgroup: str | None, container: str) -> None:
    pid = node.start(cgroup)
    result = node.clean([(6, pid, 20312)], timeout=1)
    assert node.alive(pid)
    assert (result["ended"], result["changed"], result["quarantine"]) == ([], False, False)
    assert (
        f"(GPU 6: 20316 of 23028 MiB; 1024 MiB are allowed) by processes that are not of run {node.run_id}: "
        in (result["problem"])
    )
    assert f": pid {pid} of " in result["problem"]
    assert "a model" in result["problem"]
    assert f"container {container}; end them, or choose other GPUs" in result["problem"]
    assert "\n" not in result["problem"]


def test_without_docker_nothing_is_the_runs(node: Node) -> None:
    """No proof, no signal: an engine that does not answer cannot say whose a container is."""
    gpu_doubles.program(node.folder / "bin" / "docker", "#!/bin/sh\necho no engine >&2; exit 1\n")
    pid = node.start(CGROUPS["v2 systemd"].format(id=OURS))
    assert "not of run" in node.clean([(6, pid, 20312)], timeout=0)["problem"]
    assert node.alive(pid)


def test_beside_a_stranger_the_runs_own_is_ended(node: Node) -> None:
    ours = node.start(CGROUPS["v2 systemd"].format(id=OURS))
    theirs = node.start(CGROUPS["v2 systemd"].format(id=THEIRS))
    result = node.clean([(6, ours, 9000), (6, theirs, 9000)], timeout=1)
    assert [one["pid"] for one in result["ended"]] == [ours]
    assert [(one["pid"], one["ours"]) for one in result["holders"]] == [(theirs, False)]
    assert node.alive(theirs)


def test_other_cards_do_not_count(node: Node) -> None:
    pid = node.start(CGROUPS["v2 systemd"].format(id=OURS))
    assert node.clean([(0, pid, 20312)], indices=[6])["problem"] == ""
    assert node.alive(pid)


def test_a_stranger_that_ends_by_itself_is_waited_for(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = node.start(CGROUPS["v2 systemd"].format(id=THEIRS))
    looks = []
    inventory = gpu.inventory

    def looking(program: str) -> dict[str, Any]:
        looks.append(program)
        if len(looks) == 2:
            node.processes[0].kill()
            node.processes[0].wait()
        return inventory(program)

    monkeypatch.setattr(gpu, "inventory", looking)
    result = node.clean([(6, pid, 20312)])
    assert (result["problem"], result["ended"], len(looks)) == ("", [], 2)


def test_memory_that_nobody_holds_needs_a_person(node: Node) -> None:
    result = node.clean([(6, 0, 20312)], timeout=0)
    assert result["quarantine"] is True
    assert "by no process that nvidia-smi lists; see dmesg for NVRM: Xid, reset the GPU or reboot" in result["problem"]


def test_a_process_that_outlives_the_signal_needs_a_person(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr("signal.pidfd_send_signal", lambda descriptor, _signal: sent.append(descriptor))
    pid = node.start(CGROUPS["v2 systemd"].format(id=OURS))
    result = node.clean([(6, pid, 20312)], timeout=1)
    assert len(sent) == 1
    assert result["quarantine"] is True
    assert f"by pid {pid} of run {node.run_id}, which cannot be ended; reboot the node" in result["problem"]


def test_a_signal_that_may_not_be_sent_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("signal.pidfd_send_signal", refuse)
    pid = node.start(CGROUPS["v2 systemd"].format(id=OURS))
    result = node.clean([(6, pid, 20312)])
    assert "run as root (become)" in result["problem"]
    assert result["quarantine"] is False


def test_a_number_that_went_to_another_process_is_spared(node: Node) -> None:
    """Between the look and the signal the process may have ended and its number been given to another."""
    pid = node.start(CGROUPS["v2 systemd"].format(id=THEIRS))
    assert gpu.end_if_in(pid, {OURS}, str(node.proc)) is False
    assert node.alive(pid)
    node.processes[0].kill()
    node.processes[0].wait()
    assert gpu.end_if_in(pid, {THEIRS}, str(node.proc)) is False


def test_check_mode_ends_nothing(node: Node) -> None:
    pid = node.start(CGROUPS["v2 systemd"].format(id=OURS))
    result = node.clean([(6, pid, 20312)], check=True)
    assert (result["changed"], [one["ours"] for one in result["holders"]]) == (False, [True])
    assert node.alive(pid)
