"""The action disagg.e2e.controller_file: write a JSON document on the controller. Documented beside the modules."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The action."""

    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the file if its content differs.

        Args:
            tmp: not used any more by Ansible.
            task_vars: variables of the task.
        """
        super().run(tmp, task_vars)
        path = Path(os.path.expanduser(self._task.args["path"]))
        text = json.dumps(self._task.args["content"], indent=2, sort_keys=True) + "\n"
        try:
            changed = not path.exists() or path.read_text(encoding="utf-8") != text
            if changed and not self._task.check_mode:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = path.with_name(f".{path.name}.{os.getpid()}")
                temporary.write_text(text, encoding="utf-8")
                temporary.replace(path)
        except OSError as error:
            raise AnsibleActionFail(f"{path} cannot be written: {error.strerror}") from error
        return {"changed": changed, "path": str(path)}
