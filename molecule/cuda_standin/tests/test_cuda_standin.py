"""A host without a GPU has libraries of CUDA's names, which say that there is none."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.mooncake]

CACHE = "/var/cache/disagg-e2e"
NO_DEVICE = "100"


def loaded(host: Any, program: str) -> str:
    """Run Python on the host, with the stand-ins where the loader looks; ctypes is imported."""
    folders = host.check_output(f"ls -d {CACHE}/standins/*/").split()
    folders.append(host.check_output(f"dirname $(find {CACHE}/envs -name 'libcudart.so.*')"))
    text: str = host.check_output(f"LD_LIBRARY_PATH={':'.join(folders)} python3 -c 'import ctypes; {program}'")
    return text


def test_the_driver_says_that_there_is_no_device(host: Any) -> None:
    assert loaded(host, 'print(ctypes.CDLL("libcuda.so.1").cuInit(0))') == NO_DEVICE


def test_cudas_own_runtime_finds_no_device_either(host: Any) -> None:
    program = 'n = ctypes.c_int(7); print(ctypes.CDLL("libcudart.so.12").cudaGetDeviceCount(ctypes.byref(n)))'
    assert loaded(host, program) != "0"


@pytest.mark.parametrize("library", ["libc10_cuda.so", "libtorch_cuda.so", "libmlx5.so.1"])
def test_what_mooncake_is_linked_to_can_be_loaded(host: Any, library: str) -> None:
    loaded(host, f'ctypes.CDLL("{library}", mode=ctypes.RTLD_GLOBAL)')


def test_a_call_of_torchs_ends_the_process_and_names_itself(host: Any) -> None:
    folder = host.check_output(f"ls -d {CACHE}/standins/libc10_cuda.so-*")
    program = f'import ctypes; ctypes.CDLL("{folder}/libc10_cuda.so")._ZN3c104cuda14current_deviceEv()'
    ended = host.run(f"python3 -c '{program}'")
    assert ended.rc != 0
    assert "c10::cuda::current_device was called" in ended.stderr
