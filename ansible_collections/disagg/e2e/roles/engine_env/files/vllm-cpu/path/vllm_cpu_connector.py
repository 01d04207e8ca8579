"""vLLM's MooncakeConnector, on a machine without an accelerator and with several logical nodes.

vLLM loads it by ``kv_connector_module_path``. The class has the stock one's name, by which vLLM looks up what
belongs to a connector. Three things differ from ``mooncake_connector.py`` of vLLM 0.32.0; all that moves the KV cache
is the stock connector's.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
from vllm import envs
from vllm.distributed.kv_transfer.kv_connector.v1.mooncake import mooncake_connector as stock
from vllm.utils.network_utils import get_ip


class BootstrapServer(stock.MooncakeBootstrapServer):
    """The stock server on this node's address only.

    The stock connector has it listen on all addresses of the machine, so that two logical nodes, or two runs, would
    take the port from each other.
    """

    def __init__(self, _host: str, port: int) -> None:
        """Listen on the node's address.

        Args:
            _host: What the stock connector says: all addresses.
            port: Port to listen on.
        """
        super().__init__(get_ip(), port)


def bootstrap_address(_vllm_config: Any) -> tuple[str, int]:
    """Return where prefill's workers find the server above.

    The stock function names the leader of data parallelism, which is 127.0.0.1 without any.

    Args:
        _vllm_config: Not used.
    """
    return get_ip(), envs.VLLM_MOONCAKE_BOOTSTRAP_PORT


stock.MooncakeBootstrapServer = BootstrapServer
stock.get_mooncake_bootstrap_addr = bootstrap_address


class MooncakeConnector(stock.MooncakeConnector):
    """The stock connector; its constructor gets 0 for the index of the accelerator that is not there."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Build the stock connector.

        Args:
            arguments: The stock constructor's.
            options: The stock constructor's.
        """
        with mock.patch.object(torch.accelerator, "current_device_index", return_value=0):
            super().__init__(*arguments, **options)
