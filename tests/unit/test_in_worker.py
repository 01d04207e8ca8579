"""A module runs in Ansible's own worker where the node is the controller, and nowhere else."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disagg.e2e.plugins.plugin_utils import in_worker

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.ansible]

ELSEWHERE = {"changed": False, "where": "elsewhere"}


def says_what_it_was_given() -> None:
    module = AnsibleModule(argument_spec={"word": {"type": "str", "required": True}}, supports_check_mode=True)
    module.exit_json(changed=True, word=module.params["word"], marked=os.environ.get("DISAGG_E2E_RUN"))


def fails() -> None:
    AnsibleModule(argument_spec={"word": {"type": "str"}}).fail_json(msg="no room", failure={"kind": "late"})


def breaks() -> None:
    AnsibleModule(argument_spec={"word": {"type": "str"}})
    message = "what nobody thought of"
    raise RuntimeError(message)


def act(
    main: Callable[[], None],
    *,
    transport: str = "local",
    become: bool = False,
    interpreter: str = sys.executable,
    arguments: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run an action whose module is `main`."""

    class Action(in_worker.InWorker):
        def _execute_module(self, *_words: Any, **_more: Any) -> dict[str, Any]:
            return ELSEWHERE

        def _update_module_args(self, *_words: Any, **_more: Any) -> None: ...

        def _compute_environment_string(self, raw_environment_out: Any = None) -> str:
            raw_environment_out["DISAGG_E2E_RUN"] = "this-run"
            return ""

    Action.main = staticmethod(main)
    task = SimpleNamespace(args=arguments or {"word": "hello"}, action="it", check_mode=False, async_val=0, diff=False)
    connection = SimpleNamespace(transport=transport, become=become or None, _shell=SimpleNamespace(tmpdir=None))
    templar = MagicMock(template=lambda text: text)
    others = ("play_context", "loader", "shared_loader_obj")
    action = Action(task=task, connection=connection, templar=templar, **{name: MagicMock() for name in others})
    return dict(action.run(task_vars={"ansible_python_interpreter": interpreter}))


def test_it_runs_here_with_its_arguments_and_the_tasks_environment() -> None:
    before = dict(os.environ)
    result = act(says_what_it_was_given)
    assert (result["changed"], result["word"], result["marked"]) == (True, "hello", "this-run")
    assert dict(os.environ) == before


def test_a_failure_is_the_modules_own() -> None:
    result = act(fails)
    assert result["failed"]
    assert result["msg"] == "no room"
    assert result["failure"] == {"kind": "late"}


def test_arguments_that_will_not_do_are_refused_as_ever() -> None:
    result = act(says_what_it_was_given, arguments={"wrod": "hello"})
    assert result["failed"]
    assert "word" in result["msg"]


def test_a_module_that_breaks_leaves_its_words() -> None:
    result = act(breaks)
    assert result["failed"]
    assert "RuntimeError: what nobody thought of" in result["module_stderr"]


@pytest.mark.parametrize(
    "node", [{"transport": "ssh"}, {"become": True}, {"interpreter": "/usr/bin/python3.9"}, {"interpreter": ""}]
)
def test_on_any_other_node_it_goes_the_usual_way(node: dict[str, Any]) -> None:
    assert act(says_what_it_was_given, **node) == ELSEWHERE


def test_it_can_be_told_to_go_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISAGG_E2E_MODULES", "apart")
    assert act(says_what_it_was_given) == ELSEWHERE
