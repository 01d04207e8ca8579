"""What keeps Ansible from a node, told from what it really said: ansible-core 2.19.14, OpenSSH 9.2, sudo 1.9, dash."""

from __future__ import annotations

import pytest

from pyharness import unreachable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

SSH = "Task failed: Failed to connect to the host via ssh: "
CHANGED = (
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n"
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n"
    "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n"
    "Someone could be eavesdropping on you right now (man-in-the-middle attack)!\r\n"
    "It is also possible that a host key has just been changed.\r\n"
    "The fingerprint for the ED25519 key sent by the remote host is\n"
    "SHA256:NR4yAoAI0ob8Mv3xU6FZk2Eox71WJj36fdXHvf6eTfE.\r\n"
    "Please contact your system administrator.\r\n"
    "Add correct host key in /home/x/known to get rid of this message.\r\n"
    "Offending ED25519 key in /home/x/known:1\r\n"
    "  remove with:\r\n"
    '  ssh-keygen -f "/home/x/known" -R "[127.0.0.2]:2243"\r\n'
    "Host key for [127.0.0.2]:2243 has changed and you have requested strict checking.\r\n"
    "Host key verification failed."
)
DATA = (
    'Task failed: Data could not be sent to remote host "192.0.2.1". Make sure this host can be reached over ssh: '
    "nobodyhere@192.0.2.1: Permission denied (publickey)."
)
RECORDED = {
    "wrong key": (
        SSH + "nobody@127.0.0.2: Permission denied (publickey,keyboard-interactive).",
        "it takes none of the ssh keys that were offered for user nobody (it would take: publickey,key",
        "add the public key to ~nobody/.ssh/authorized_keys",
    ),
    "wrong user": (DATA, "it takes none of the ssh keys that were offered for user nobodyhere", "(ansible_user)"),
    "no key": (
        SSH
        + "no such identity: /home/x/key: No such file or directory\r\nme@192.0.2.1: Permission denied (publickey).",
        "the ssh key /home/x/key that the inventory names is not there",
        "ssh-keygen -t ed25519 -f /home/x/key",
    ),
    "unknown host key": (
        SSH + "Host key verification failed.",
        "its ssh host key is not known here",
        "ssh-keyscan ADDRESS >> ~/.ssh/known_hosts",
    ),
    "changed host key": (
        SSH + CHANGED,
        "its ssh host key is not the one that /home/x/known has (ED25519)",
        "ssh-keygen -f /home/x/known -R ADDRESS",
    ),
    "changed host key of a file that is not told": (
        SSH + "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\r\nHost key verification failed.",
        "its ssh host key is not the known one",
        "ssh-keygen -R ADDRESS",
    ),
    "refused": (
        SSH + "ssh: connect to host 127.0.0.2 port 22: Connection refused",
        "the host is up, and nothing listens on port 22",
        "systemctl start ssh",
    ),
    "no route": (
        SSH + "ssh: connect to host 192.0.2.77 port 22: No route to host",
        "there is no way to its address",
        "ip route get ADDRESS",
    ),
    "timed out": (
        SSH + "Connection timed out during banner exchange\r\nConnection to 198.51.100.7 port 22 timed out",
        "it does not answer",
        "firewall",
    ),
    "no name": (
        SSH + "ssh: Could not resolve hostname no-such-host.invalid: Name or service not known",
        "the name no-such-host.invalid cannot be resolved",
        "set ansible_host to an address",
    ),
    "closed": (
        SSH
        + "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 127.0.0.3 port 2245",
        "the connection is closed before ssh has begun",
        "journalctl -u ssh",
    ),
    "sudo with a password": (
        "Task failed: Missing sudo password",
        "sudo asks the user for a password",
        "NOPASSWD: ALL",
    ),
    "sudo without a terminal": (
        "sudo: a terminal is required to read the password\nsudo: a password is required",
        "sudo asks the user for a password",
        "NOPASSWD: ALL",
    ),
    "no right to sudo": ("x is not in the sudoers file.", "the user may not use sudo", "NOPASSWD: ALL"),
    "no sudo": ("/bin/sh: 1: sudo: not found\n", "sudo is not installed", "apt-get install sudo"),
    "no python": (
        "The module interpreter '/usr/bin/python3' was not found.",
        "there is no Python at /usr/bin/python3",
        "apt-get install python3",
    ),
    "no python, in the shell's words": (
        "/bin/sh: 1: /usr/bin/python3.99: not found\n",
        "there is no Python at /usr/bin/python3.99",
        "apt-get install python3",
    ),
    "no python, in another shell's words": (
        "bash: line 1: /opt/python: No such file or directory\n",
        "there is no Python at /opt/python",
        "apt-get install python3",
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_what_ansible_said_has_its_cause_and_its_remedy(name: str) -> None:
    message, cause, remedy = RECORDED[name]
    told = unreachable.explain(message)
    assert told[0].startswith(cause)
    assert remedy in told[1]
    assert all("\n" not in part and "{" not in part for part in told)


def test_causes_are_told_apart() -> None:
    causes = {unreachable.explain(message)[0] for message, _cause, _remedy in RECORDED.values()}
    assert len(causes) == len(RECORDED) - 1, "only the two that sudo says of a password are one"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (SSH + "something\nnew", "something new"),
        ("  ", "Ansible did not say why"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_what_nobody_knows_is_told_as_it_is(message: str, cause: str) -> None:
    told, remedy = unreachable.explain(message)
    assert told == cause
    assert remedy.endswith("ansible -m ansible.builtin.ping NODE")
