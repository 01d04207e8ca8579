"""A host has an image that needed a log-in, and nothing of the log-in."""

from __future__ import annotations

import base64
from typing import Any

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.integration, pytest.mark.gpu_0, pytest.mark.ansible]

PASSWORD = "right-for-molecule"  # noqa: S105 (made up for this scenario's own registry)


def test_the_image_is_there(host: Any) -> None:
    assert host.run("docker image inspect 127.0.0.1:5000/test/secret:1").rc == 0


def test_the_password_is_in_no_file_and_in_no_journal(host: Any) -> None:
    stored = base64.b64encode(f"somebody:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, stored):
        # sudo writes this very command into the journal, where such a pattern does not find itself.
        pattern = f"'[{secret[0]}]{secret[1:]}'"
        assert host.run(f"grep -rl -e {pattern} /run /root /etc /tmp /var/log /var/tmp /home").stdout == ""
        # journalctl itself, since entries may be compressed.
        assert host.run(f"journalctl --no-pager | grep -c -e {pattern}").stdout.strip() == "0"


def test_the_folder_of_the_log_in_is_gone(host: Any) -> None:
    assert host.check_output("find /run -maxdepth 1 -name 'disagg-e2e-login-*'") == ""
    assert not host.file("/root/.docker/config.json").exists
