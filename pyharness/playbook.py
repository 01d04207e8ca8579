"""Run playbooks. The only module that knows ansible-runner.

What ansible-runner leaves behind holds the controller's whole environment, tokens included, so its private
directory is temporary and goes when the playbook has ended.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ansible_runner

from pyharness import paths, redaction, temporary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# How long a playbook may still take to end by itself once one of its nodes has failed for good.
_AFTER_FAILURE_SECONDS = 1.0
# How often ansible-runner asks whether to go on while a playbook says nothing. Its default is five seconds.
_CANCEL_POLL_SECONDS = 0.2
# What Ansible puts before the words that count.
_NO_NEWS = "Task failed: "
# As node_state.py of the collection has it.
_RUN_VARIABLE = "DISAGG_E2E_RUN"


@dataclass(frozen=True)
class TaskFailure:
    """One failed task on one node."""

    node: str
    task: str
    role: str
    message: str
    unreachable: bool = False
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a playbook ended.

    `status` is ansible-runner's: successful, failed, timeout or canceled.
    """

    status: str
    failures: list[TaskFailure]
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every task on every node went well."""
        return self.status == "successful" and not self.failures


@dataclass(frozen=True)
class Turn:
    """A play with which another part of a playbook begins.

    Attributes:
        play: the play's name.
        label: names the file that keeps Ansible's output from there on.
        begun: called when it begins.
    """

    play: str
    label: str
    begun: Callable[[], None]

    def in_event(self, event: dict[str, Any]) -> bool:
        """Tell whether an event of ansible-runner is the begin of this play."""
        return event.get("event") == "playbook_on_play_start" and event["event_data"].get("play") == self.play

    def split(self, output: str) -> tuple[str, str]:
        """Return Ansible's output before and from this play on."""
        before, found, after = output.partition(f"\nPLAY [{self.play}] ")
        return before, found + after


class _Failures:
    """The failures of a playbook so far. One that a `rescue` mends is none: its node goes on with other tasks."""

    def __init__(self) -> None:
        self._standing: list[tuple[float, TaskFailure]] = []
        self._passed: list[TaskFailure] = []

    def take(self, event: dict[str, Any]) -> None:
        """Learn from an event of ansible-runner."""
        failure = _failure_of(event)
        if failure is not None:
            self._standing.append((time.monotonic(), failure))
        elif event.get("event") == "runner_on_start":
            node = event.get("event_data", {}).get("host")
            self._passed += [known for _at, known in self._standing if known.node == node]
            self._standing = [entry for entry in self._standing if entry[1].node != node]

    def standing_for(self) -> float:
        """Return for how many seconds the oldest failure has stood; 0 if none stands."""
        return time.monotonic() - self._standing[0][0] if self._standing else 0.0

    def told(self, *, succeeded: bool) -> list[TaskFailure]:
        """Return what to tell at the end. Tasks of an `always` follow a failure without mending it."""
        if succeeded:
            return []
        return [failure for _at, failure in self._standing] or self._passed


class PlaybookRunner:
    """Runs the project's playbooks for one run.

    Args:
        inventory: the inventory's path.
        log_dir: folder for Ansible's output, one file per playbook run.
        cancelled: asked several times a second; true ends the playbook that runs.
    """

    def __init__(self, inventory: Path, log_dir: Path, cancelled: Callable[[], bool]) -> None:
        redaction.learn_environment(os.environ)
        redaction.learn_inventory(inventory)
        temporary.sweep()
        self._inventory = inventory
        self._log_dir = log_dir
        self._cancelled = cancelled

    def run(
        self,
        playbook: str,
        variables: dict[str, Any],
        *,
        label: str,
        tags: str = "",
        timeout: int,
        patient: bool = False,
        turn: Turn | None = None,
    ) -> Outcome:
        """Run a playbook and wait for its end.

        Args:
            playbook: file name below playbooks/.
            variables: extra variables.
            label: name of the file that keeps Ansible's output.
            tags: only plays with these tags.
            timeout: seconds after which it is ended.
            patient: let the other nodes go on when one failed. Otherwise the playbook is ended: a prefill server
                need not become ready when the decode server is dead.
            turn: where another part of it begins, if it has one that is told apart.
        """
        failures = _Failures()
        broken: list[Exception] = []

        def on_event(event: dict[str, Any]) -> bool:
            # With values that only Ansible knows: looked up, from a vault, or put together by a template.
            redaction.learn_variables(_arguments_of(event))
            failures.take(event)
            if turn is not None and turn.in_event(event):
                try:
                    turn.begun()
                except Exception as error:  # noqa: BLE001 (ansible-runner would leave the playbook running)
                    broken.append(error)
            return True

        def cancel() -> bool:
            given_up = not patient and failures.standing_for() > _AFTER_FAILURE_SECONDS
            return given_up or bool(broken) or (not patient and self._cancelled())

        redaction.learn_variables(variables)
        started = time.monotonic()
        with temporary.folder("runner") as private:
            result = ansible_runner.run(
                private_data_dir=str(private),
                project_dir=str(paths.PLAYBOOKS),
                playbook=str(paths.PLAYBOOKS / playbook),
                inventory=str(self._inventory.resolve()),
                extravars=variables,
                envvars=self._environment(variables, private, cleaning=patient),
                cmdline=f"--tags {tags}" if tags else None,
                event_handler=on_event,
                cancel_callback=cancel,
                timeout=timeout,
                fact_cache_type="memory",
                settings={"pexpect_timeout": _CANCEL_POLL_SECONDS},
                quiet=True,
            )
            with result.stdout as stream:
                output = redaction.redact(stream.read())
        parts = {label: output}
        if turn is not None:
            parts[label], parts[turn.label] = turn.split(output)
        for name, part in parts.items():
            if part:
                (self._log_dir / f"{name}.log").write_text(part, encoding="utf-8")
        if broken:
            raise broken[0]
        told = failures.told(succeeded=result.status == "successful")
        status = "failed" if result.status == "canceled" and told else str(result.status)
        return Outcome(status, told, output, time.monotonic() - started)

    def _environment(self, variables: dict[str, Any], private: Path, *, cleaning: bool) -> dict[str, str]:
        # Marked like all that belongs to a run: if the harness is killed, teardown ends the playbook too. But not the
        # playbook that cleans up, or a node's part of it would end the other nodes'; and not one that belongs to no
        # run and starts nothing, such as a plan.
        run = None if cleaning else variables.get("disagg_run")
        mark = {_RUN_VARIABLE: str(run)} if run else {}
        return mark | {
            "PATH": os.environ["PATH"],
            "ANSIBLE_CONFIG": str(paths.PROJECT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(paths.PROJECT),
            "ANSIBLE_NOCOLOR": "1",
            # What it leaves when it is killed goes with all else.
            "ANSIBLE_LOCAL_TEMP": str(private / "local"),
            # ansible-runner turns it off where nothing is said: then any machine that answers is taken for the host.
            "ANSIBLE_HOST_KEY_CHECKING": "True",
        }


def _arguments_of(event: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the module that an event tells of, and the facts that it set."""
    found = event.get("event_data", {}).get("res")
    result = found if isinstance(found, dict) else {}
    return {key: result[key] for key in ("invocation", "ansible_facts") if key in result}


def _failure_of(event: dict[str, Any]) -> TaskFailure | None:
    """Return the failure that an event tells of; None if it tells of none."""
    kind, data = event.get("event"), event.get("event_data", {})
    if kind not in ("runner_on_failed", "runner_on_unreachable") or data.get("ignore_errors"):
        return None
    result = data.get("res") or {}
    # A loop says "one or more items failed". Events of its items say more, but not whether the task ignores errors.
    result = next((item for item in result.get("results", []) if item.get("failed")), result)
    # A module that breaks before it can speak leaves its words in module_stderr, under a message that says nothing.
    words = [result.get(key) for key in ("module_stderr", "msg", "stderr", "exception")]
    message = next((str(word) for word in words if word), "no message")
    return TaskFailure(
        node=str(data.get("host", "?")),
        task=str(data.get("task", "?")),
        role=str(data.get("role", "")).removeprefix("disagg.e2e."),
        message=redaction.redact(message.strip().removeprefix(_NO_NEWS)),
        unreachable=kind == "runner_on_unreachable",
        details=redaction.redact_value(result.get("failure") or {}),
    )


def error_line(output: str) -> str:
    """Return the first line of Ansible's output that says what was wrong; for what never became a task."""
    for line in output.splitlines():
        if line.startswith(("[ERROR]:", "ERROR!")):
            return line.partition(" ")[2].strip() or line
    tail = [line for line in output.splitlines() if line.strip()]
    return tail[-1] if tail else "Ansible said nothing"
