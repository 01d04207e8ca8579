"""What keeps Ansible from a node, told from its words: the cause, and what to do about it."""

from __future__ import annotations

import re
from typing import NamedTuple

# How Ansible puts its own words before those of ssh.
_PREFIX = re.compile(
    r"^(Task failed: |Action failed: |Module failed: |Failed to connect to the host via ssh: |"
    r"Data could not be sent to remote host \"[^\"]*\"\. Make sure this host can be reached over ssh: )+"
)
_MAX_WORDS = 300

# The words of OpenSSH 9.2, of sudo 1.9, of dash and of ansible-core 2.19: the first that matches. Groups of a pattern
# fill its cause and its remedy. A changed host key comes before an unknown one, which ends in the same words.
_SUDOERS = "a file in /etc/sudoers.d with: USER ALL=(ALL) NOPASSWD: ALL"


class _Cause(NamedTuple):
    pattern: str
    cause: str
    remedy: str


_CAUSES = (
    _Cause(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED.*?Offending (?P<kind>\S+) key in (?P<file>\S+?):\d+",
        cause="its ssh host key is not the one that {file} has ({kind}): the host was installed anew, or another one "
        "answers at its address",
        remedy="find out which; if it was installed anew: ssh-keygen -f {file} -R ADDRESS; ssh-keyscan ADDRESS >> "
        "{file}, and compare the fingerprint with the host's own",
    ),
    _Cause(
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        cause="its ssh host key is not the known one: it was installed anew, or another one answers at its address",
        remedy="find out which; if it was installed anew: ssh-keygen -R ADDRESS; ssh-keyscan ADDRESS >> "
        "~/.ssh/known_hosts, and compare the fingerprint with the host's own",
    ),
    _Cause(
        "Host key verification failed",
        cause="its ssh host key is not known here",
        remedy="ssh-keyscan ADDRESS >> ~/.ssh/known_hosts (or the inventory's UserKnownHostsFile), and compare the "
        "fingerprint with the host's own: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
    ),
    _Cause(
        r"no such identity: (?P<file>\S+): No such file",
        cause="the ssh key {file} that the inventory names is not there",
        remedy="make it (ssh-keygen -t ed25519 -f {file}) and add {file}.pub to ~/.ssh/authorized_keys on the host, or "
        "name another IdentityFile in the inventory",
    ),
    _Cause(
        r"(?P<user>\S+)@\S+: Permission denied \((?P<ways>[^)]*)\)",
        cause="it takes none of the ssh keys that were offered for user {user} (it would take: {ways})",
        remedy="add the public key to ~{user}/.ssh/authorized_keys on the host, or name the right user (ansible_user) "
        "and key (IdentityFile) in the inventory",
    ),
    _Cause(
        r"Could not resolve hostname (?P<name>[^\s:]+)",
        cause="the name {name} cannot be resolved",
        remedy="set ansible_host to an address, or add the name to DNS or /etc/hosts",
    ),
    _Cause(
        r"connect to host \S+ port (?P<port>\d+): Connection refused",
        cause="the host is up, and nothing listens on port {port}",
        remedy="start sshd there (systemctl start ssh), or set ansible_port",
    ),
    _Cause(
        "No route to host|Network is unreachable",
        cause="there is no way to its address",
        remedy="see whether the host is up, whether ansible_host is right, and the routes: ip route get ADDRESS",
    ),
    _Cause(
        "timed out",
        cause="it does not answer",
        remedy="see whether the host is up, whether ansible_host is right, and whether a firewall drops ssh",
    ),
    _Cause(
        "kex_exchange_identification|Connection closed by|Connection reset by",
        cause="the connection is closed before ssh has begun",
        remedy="see whether sshd is well (journalctl -u ssh on the host), whether it turns this client away "
        "(MaxStartups, fail2ban, hosts.deny), and whether ansible_port is sshd's",
    ),
    _Cause(
        "Missing sudo password|[Aa] password is required|Incorrect sudo password",
        cause="sudo asks the user for a password",
        remedy=f"allow it without one ({_SUDOERS}), or set ansible_user: root",
    ),
    _Cause(
        "is not in the sudoers file|is not allowed to (?:run sudo|execute)",
        cause="the user may not use sudo",
        remedy=f"allow it ({_SUDOERS}), or set ansible_user: root",
    ),
    _Cause(
        "sudo: (?:command )?not found",
        cause="sudo is not installed",
        remedy="install it as root (apt-get install sudo), or set ansible_user: root and ansible_become: false",
    ),
    *(
        _Cause(
            pattern,
            cause="there is no Python at {file}",
            remedy="install it (Debian and Ubuntu: apt-get install python3), or name another in "
            "ansible_python_interpreter",
        )
        # Ansible's words, and those of the shell that it leaves in module_stderr.
        for pattern in (
            "module interpreter '(?P<file>[^']*)' was not found",
            r"sh: (?:line )?\d+: (?P<file>\S*python[\d.]*): (?:command )?(?:not found|No such file)",
        )
    ),
    _Cause(
        "Failed to create temporary directory|No space left on device",
        cause="Ansible cannot write its files there",
        remedy="see whether the user's home directory is there and has room (df -h), or set ansible_remote_tmp",
    ),
)


def explain(message: str) -> tuple[str, str]:
    """Tell why Ansible could not reach a node, or could not start there.

    Args:
        message: Ansible's message of an unreachable node or of a failed task, with what the module wrote to stderr.

    Returns:
        cause and remedy. The cause is Ansible's own words where they are of no known kind, and the remedy then a
        command that shows more.
    """
    for known in _CAUSES:
        found = re.search(known.pattern, message, re.DOTALL)
        if found:
            return known.cause.format(**found.groupdict()), known.remedy.format(**found.groupdict())
    words = " ".join(_PREFIX.sub("", message.strip()).split())
    return words[
        :_MAX_WORDS
    ] or "Ansible did not say why", "see whether it answers: ansible -m ansible.builtin.ping NODE"
