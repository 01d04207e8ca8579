"""Run a module of this collection inside Ansible's own worker, where that changes nothing but the time it takes.

Ansible's way is to pack a module with all that it imports, start a Python with it, and have that Python compile it all
anew: a third of a second of processor time per task and node, more than what most modules then do. For a node that is
the controller itself, under the same Python and the same user, the worker that Ansible has forked for this task and
node is that Python already. (ansible.netcommon does the same under the name of import_modules.) On every other node,
and wherever anything is not as it has to be, the module goes Ansible's own way.

DISAGG_E2E_MODULES=apart in the environment of ansible-playbook sends every module Ansible's own way.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from ansible.module_utils import basic
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.plugins.action import ActionBase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How arguments and results are written: Ansible's own for modules in Python (ansible.module_utils.common.json).
_PROFILE = "legacy"


class InWorker(ActionBase):
    """The action of a module that may run in the worker. A subclass names the module's `main`."""

    main: Callable[[], None]

    _supports_check_mode = True
    # As a module on its way to a node: async is no concern of an action that says nothing else.
    _supports_async = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module.

        Args:
            tmp: not used any more by Ansible.
            task_vars: variables of the task.
        """
        super().run(tmp, task_vars)
        return self.run_module(task_vars or {})

    def run_module(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the module, here or Ansible's own way, and return its result."""
        if not self._is_here(task_vars):
            result: dict[str, Any] = self._execute_module(task_vars=task_vars)
            return result
        arguments = dict(self._task.args)
        self._update_module_args(self._task.action, arguments, task_vars)
        environment: dict[str, str] = {}
        self._compute_environment_string(environment)
        encoder = get_module_encoder(_PROFILE, Direction.CONTROLLER_TO_MODULE)
        text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}, cls=encoder)
        with _settings(text.encode(), environment):
            done = _call(type(self).main)
        # Ansible's own reading of what a module printed, so that a module that breaks is told of in the same words.
        parsed: dict[str, Any] = self._parse_returned_data(done, _PROFILE)
        return {key: value for key, value in parsed.items() if key != "invocation" or self._task.diff}

    def _is_here(self, task_vars: dict[str, Any]) -> bool:
        """Tell whether the node is this very machine, Python and user."""
        interpreter = self._templar.template(task_vars.get("ansible_python_interpreter", ""))
        return (
            os.environ.get("DISAGG_E2E_MODULES", "") != "apart"
            and self._connection.transport == "local"
            and not self._connection.become
            and interpreter == sys.executable
        )


@contextmanager
def _settings(arguments: bytes, environment: dict[str, str]) -> Iterator[None]:
    """Give a module its arguments and the task's environment, and put everything back."""
    before, profile, known = basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE, dict(os.environ)  # noqa: SLF001 (as testing.py of Ansible does)
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = arguments, _PROFILE  # noqa: SLF001
    os.environ.update({key: str(value) for key, value in environment.items()})
    try:
        yield
    finally:
        basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = before, profile  # noqa: SLF001
        os.environ.clear()
        os.environ.update(known)


def _call(main: Callable[[], None]) -> dict[str, Any]:
    """Call a module's `main` as a process of its own would be run: what it prints, and how it ends."""
    printed, complained, code = io.StringIO(), io.StringIO(), 1
    with redirect_stdout(printed), redirect_stderr(complained):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:  # noqa: BLE001 (what a Python of its own would do with it)
            traceback.print_exc()
    return {"rc": code, "stdout": printed.getvalue(), "stderr": complained.getvalue()}
