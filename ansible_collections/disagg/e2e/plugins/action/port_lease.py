"""The action disagg.e2e.port_lease: the module, in the worker where it can be. See the module."""

from __future__ import annotations

from ansible_collections.disagg.e2e.plugins.modules import port_lease
from ansible_collections.disagg.e2e.plugins.plugin_utils.in_worker import InWorker


class ActionModule(InWorker):
    """The action."""

    main = staticmethod(port_lease.main)
