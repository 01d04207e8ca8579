"""The action disagg.e2e.node_info: run the module, and take the node's clock. Documented beside the modules."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.disagg.e2e.plugins.modules import node_info
from ansible_collections.disagg.e2e.plugins.plugin_utils.in_worker import InWorker


class ActionModule(InWorker):
    """The action."""

    main = staticmethod(node_info.main)

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module and add the clock to its result.

        Args:
            tmp: not used any more by Ansible.
            task_vars: variables of the task.
        """
        result = super().run(tmp, task_vars)
        # After the module, which has opened the connection: what is timed is the way there and back alone.
        clock = None if result.get("failed") else self._clock()
        return {**result, "clock": clock} if clock else result

    def _clock(self) -> dict[str, float] | None:
        """Return how far the node's clock is ahead of the controller's, and how far off that may be, in seconds.

        The node reads its clock at some moment between question and answer. So the middle of the two is off by half of
        the way there and back at most, however slow the connection is: the reckoning of RFC 5905, section 8.
        """
        asked = time.time()
        answer = self._low_level_execute_command("date +%s.%N", sudoable=False)
        answered = time.time()
        try:
            told = float(answer["stdout"].split()[-1])
        except (ValueError, IndexError):
            return None
        return {
            "offset_seconds": round(told - (asked + answered) / 2, 3),
            "uncertainty_seconds": round((answered - asked) / 2, 3),
        }
