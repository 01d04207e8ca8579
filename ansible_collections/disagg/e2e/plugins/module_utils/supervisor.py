"""Talk to the supervisord of one run on one node, over its Unix socket.

Source of the protocol: supervisor's XML-RPC API, http://supervisord.org/api.html. Standard library only: the
Python that runs Ansible's modules on a node need not have supervisor installed.
"""

from __future__ import annotations

import http.client
import json
import re
import shlex
import socket
import time
import xmlrpc.client
from contextlib import suppress
from pathlib import Path
from typing import Any

# Linux gives sun_path 108 bytes (unix(7)), one of them for the closing zero.
MAX_SOCKET_PATH = 107
# supervisor.process.ProcessStates: what has ended for good when autorestart is off.
ENDED = ("EXITED", "FATAL", "STOPPED", "BACKOFF", "UNKNOWN")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self._path, self._timeout = path, timeout

    def make_connection(self, host: Any) -> _UnixConnection:  # noqa: ARG002 (the base class's)
        return _UnixConnection(self._path, self._timeout)


class Supervisor:
    """The supervisord whose files lie in one directory.

    Args:
        run_dir: the directory of this run on this node.
        timeout: seconds that one call may take; stopping a service has to fit in.
    """

    def __init__(self, run_dir: str, timeout: float = 60.0) -> None:
        self.run_dir = Path(run_dir)
        self.socket = self.run_dir / "supervisor.sock"
        self.config = self.run_dir / "supervisord.conf"
        self.programs = self.run_dir / "services"
        proxy = xmlrpc.client.ServerProxy(
            "http://localhost", transport=_UnixTransport(str(self.socket), timeout), allow_none=True
        )
        self.rpc: Any = proxy.supervisor

    def is_up(self) -> bool:
        """Tell whether it answers."""
        try:
            return bool(self.rpc.getState()["statename"] == "RUNNING")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False

    def status(self, name: str) -> dict[str, Any] | None:
        """Return supervisor's description of a service; None when it has none of that name.

        Raises:
            OSError: supervisord does not answer.
        """
        try:
            return dict(self.rpc.getProcessInfo(name))
        except xmlrpc.client.Fault:
            return None

    def noted_shared_memory(self, name: str = "*") -> set[str]:
        """Return the files below /dev/shm that services had mapped when they became ready (see service_ready).

        Args:
            name: only this service's.
        """
        noted: set[str] = set()
        for record in self.programs.glob(f"{name}.ready"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                noted.update(path for path in json.loads(record.read_text())["shared_memory"])
        return noted

    def write_config(self) -> None:
        """Write the configuration of a supervisord without services."""
        for folder in (self.run_dir, self.programs, self.run_dir / "tmp"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = _percent(str(self.run_dir))
        self.config.write_text(
            f"[unix_http_server]\nfile={root}/supervisor.sock\nchmod=0700\n"
            f"[supervisord]\nlogfile={root}/supervisord.log\npidfile={root}/supervisord.pid\n"
            f"childlogdir={root}\nlogfile_maxbytes=0\nminfds=1024\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            # Below the configuration's own folder: a list of files is split at spaces, which an absolute path may hold.
            "[include]\nfiles = services/*.conf\n"
        )

    def write_program(self, name: str, spec: dict[str, Any]) -> None:
        """Write one service's configuration.

        Args:
            name: the service's name.
            spec: command (list), environment, directory, log, stop_signal, stop_grace (seconds), start (false: only
                declared; true where it does not say).

        Raises:
            ValueError: supervisor's format cannot hold a word of it; the text says which.
        """
        for word in spec["command"]:
            if "\n" in word or "\r" in word:
                raise ValueError(f"command of {name}: {word!r} holds a line break, which supervisor cannot take")
        autostart = "true" if spec.get("start", True) else "false"
        variables = ",".join(f"{key}={_quoted(key, value)}" for key, value in sorted(spec["environment"].items()))
        path = self.programs / f"{name}.conf"
        path.touch(mode=0o600)  # before the text is there: an environment may hold a token
        path.write_text(
            f"[program:{name}]\ncommand={_escaped(shlex.join(spec['command']))}\nenvironment={variables}\n"
            # Supervisor expands a log's path twice.
            f"directory={_percent(spec['directory'])}\nstdout_logfile={_percent(_percent(spec['log']))}\n"
            "redirect_stderr=true\nstdout_logfile_maxbytes=0\n"
            # A service that ends is evidence. Nobody restarts it, and there is no "it ran for a second" to wait for.
            f"autostart={autostart}\nautorestart=false\nstartsecs=0\nstartretries=0\n"
            f"stopsignal={spec['stop_signal']}\nstopwaitsecs={spec['stop_grace']}\nkillasgroup=true\n"
        )

    def wait_up(self, seconds: float) -> bool:
        """Wait until it answers, `seconds` at most."""
        deadline = time.monotonic() + seconds
        # Its socket first: to ask one that is not there costs far more than to see that it is not.
        while not (self.socket.exists() and self.is_up()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)  # the poll interval
        return True


def log_tail(path: str, lines: int = 20, width: int = 400) -> list[str]:
    """Return the last lines of a log that say something, each cut to `width` characters."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - 64 * 1024))
            text = stream.read().decode("utf-8", "replace")
    except OSError as error:
        return [f"(no log: {error.strerror}: {path})"]
    return [line[:width] for line in text.splitlines() if line.strip()][-lines:]


def _percent(text: str) -> str:
    """Escape supervisor's own expansion character."""
    return text.replace("%", "%%")


def _escaped(text: str) -> str:
    """Escape what supervisor's configuration gives a meaning: % and, after a space, the comments' ; and #.

    There is no escape for a comment; an expansion that gives nothing, set between, keeps it from being one.
    """
    return re.sub(r"(?<=\s)(?=[;#])", "%(program_name).0s", _percent(text))


def _quoted(key: str, value: str) -> str:
    """Write a value for supervisor's `environment=`: between quotes, which cannot be escaped and are cut at its ends.

    Raises:
        ValueError: it cannot be written.
    """
    quote = "'" if '"' in value else '"'
    if quote in value or value != value.strip("'\"") or "\n" in value or "\r" in value:
        raise ValueError(
            f"environment variable {key}: supervisor cannot take a value with a line break, with both kinds of quotes, "
            "or with a quote at its begin or end"
        )
    return quote + _escaped(value) + quote
