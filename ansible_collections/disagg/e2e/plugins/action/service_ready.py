"""The action disagg.e2e.service_ready: the module, in the worker where it can be. See the module."""

from __future__ import annotations

from ansible_collections.disagg.e2e.plugins.modules import service_ready
from ansible_collections.disagg.e2e.plugins.plugin_utils.in_worker import InWorker


class ActionModule(InWorker):
    """The action."""

    main = staticmethod(service_ready.main)
