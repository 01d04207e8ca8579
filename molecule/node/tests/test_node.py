"""A bare host has what a run needs of it: the state directory and the libraries."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]


def test_the_state_directory_is_there_and_roots(host: Any) -> None:
    directory = host.file("/var/lib/disagg/runs")
    assert directory.is_directory
    assert (directory.user, directory.mode) == ("root", 0o755)


def test_the_linker_finds_the_library_that_was_missing(host: Any) -> None:
    assert host.package("libnuma1").is_installed
    assert host.run("/usr/bin/python3 -c 'import ctypes; ctypes.CDLL(\"libnuma.so.1\")'").rc == 0
