"""The action disagg.e2e.node_diagnosis: in Ansible's own worker where it can be. Documented beside the modules."""

from __future__ import annotations

from ansible_collections.disagg.e2e.plugins.modules import node_diagnosis
from ansible_collections.disagg.e2e.plugins.plugin_utils.in_worker import InWorker


class ActionModule(InWorker):
    """The action."""

    main = staticmethod(node_diagnosis.main)
