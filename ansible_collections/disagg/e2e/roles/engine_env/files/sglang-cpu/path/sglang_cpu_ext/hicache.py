"""Let the hierarchical cache (HiCache) copy pages without CUDA, in the layout ``page_first_direct``.

The other way to copy, ``--hicache-io-backend kernel``, and with it the layout ``page_first``, is CUDA kernels only. A
server that is told to use it is refused here as it starts; by itself it would die at its first request.

``srt/mem_cache/pool_host/mha.py`` and its neighbours import the two copying kernels on cuda, hip and xpu only
and call them by name everywhere. Here they are plain torch. The host memory is allocated without pinning it
for a GPU (``cudaHostRegister`` in ``srt/mem_cache/pool_host/common.py``).

A device buffer has the shape (slots, heads, ...) for each layer. A host buffer has (pages, layers, page size,
heads, ...). Slots come as whole pages: every ``page_size``-th number divided by ``page_size`` is a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sglang.srt.mem_cache import memory_pool_host
from sglang.srt.mem_cache.pool_host import mha, mla
from sglang.srt.mem_cache.pool_host.common import ALLOC_MEMORY_FUNCS
from sglang.srt.runtime_context import get_memory

if TYPE_CHECKING:
    import torch
    from sglang.srt.mem_cache.pool_host.common import HostTensorAllocator


def pages_of(slots: torch.Tensor, page_size: int) -> torch.Tensor:
    """Return the numbers of the pages that the slots fill.

    Args:
        slots: Slot numbers, page by page.
        page_size: Slots in a page.
    """
    return (slots[::page_size] // page_size).long()


def transfer_kv_all_layer_direct_lf_pf(
    src_ptrs: list[torch.Tensor],
    dst_ptrs: list[torch.Tensor],
    src_indices: torch.Tensor,
    dst_indices: torch.Tensor,
    page_size: int,
) -> None:
    """Copy pages of all layers from the device to the host.

    Args:
        src_ptrs: Device buffers: those of the first host buffer layer by layer, then those of the next.
        dst_ptrs: Host buffers, one for keys and one for values, or a single one for MLA.
        src_indices: Device slots to read.
        dst_indices: Host slots to write.
        page_size: Slots in a page.
    """
    source, target = pages_of(src_indices, page_size), pages_of(dst_indices, page_size)
    layers = len(src_ptrs) // len(dst_ptrs)
    for number, buffer in enumerate(src_ptrs):
        host = dst_ptrs[number // layers]
        whole_pages = buffer[: buffer.shape[0] // page_size * page_size]
        pages = whole_pages.view(-1, page_size, *buffer.shape[1:])[source]
        host[target, number % layers] = pages.view(len(target), *host.shape[2:])


def transfer_kv_per_layer_direct_pf_lf(
    src_ptrs: list[torch.Tensor],
    dst_ptrs: list[torch.Tensor],
    src_indices: torch.Tensor,
    dst_indices: torch.Tensor,
    layer_id: int,
    page_size: int,
) -> None:
    """Copy pages of one layer from the host to the device.

    Args:
        src_ptrs: Host buffers, one for keys and one for values, or a single one for MLA.
        dst_ptrs: The layer's device buffers in the same order.
        src_indices: Host slots to read.
        dst_indices: Device slots to write.
        layer_id: Layer to copy.
        page_size: Slots in a page.
    """
    source = pages_of(src_indices, page_size)
    for host, buffer in zip(src_ptrs, dst_ptrs, strict=True):
        buffer[dst_indices.long()] = host[source, layer_id].reshape(-1, *buffer.shape[1:])


def allocate_unpinned(
    dims: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    pin_memory: bool,  # noqa: FBT001
    allocator: HostTensorAllocator,
    registration_granularity_bytes: int | None = None,
) -> torch.Tensor:
    """Allocate host memory the way ``alloc_with_host_register`` does, less the registration with a GPU.

    Args:
        dims: Shape.
        dtype: Type of the numbers.
        device: Always "cpu".
        pin_memory: Ignored, there is no GPU to pin it for.
        allocator: Chosen by the storage backend, which registers the memory with Mooncake.
        registration_granularity_bytes: Ignored like ``pin_memory``.

    Raises:
        NotImplementedError: The copying is to be done by CUDA kernels.
    """
    memory = get_memory()
    if memory.hicache_io_backend != "direct":
        message = (
            f"sglang-cpu: --hicache-io-backend {memory.hicache_io_backend} with --hicache-mem-layout "
            f"{memory.hicache_mem_layout} copies pages with CUDA kernels of sgl_kernel, which have no build for a CPU"
        )
        raise NotImplementedError(message)
    del pin_memory, registration_granularity_bytes
    return allocator.allocate(dims, dtype=dtype, device=device)


for module in (mha, mla, memory_pool_host):
    module.transfer_kv_all_layer_direct_lf_pf = transfer_kv_all_layer_direct_lf_pf
    module.transfer_kv_per_layer_direct_pf_lf = transfer_kv_per_layer_direct_pf_lf
ALLOC_MEMORY_FUNCS["cpu"] = allocate_unpinned
