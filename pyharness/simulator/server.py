"""The simulator's two HTTP servers and its process: start, readiness, end.

HTTP stands on the standard library's threading server: a test engine serves a handful of connections, has to
start at once and in any environment, and has to send broken HTTP on demand.
"""

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from pyharness.simulator import VERSION, rooms
from pyharness.simulator.engines import DecodeEngine, Engine, PrefillEngine, SingleEngine
from pyharness.simulator.metrics import Metrics
from pyharness.simulator.misbehaviour import DECODE, PREFILL, SINGLE, Misbehaving
from pyharness.simulator.model import CONTEXT_LENGTH, Model, ModelError
from pyharness.simulator.protocol import INFERENCE_PATHS
from pyharness.simulator.replies import Reply, json_reply, text_reply
from pyharness.simulator.service import OTHER_MODEL, Identity, Service
from pyharness.simulator.transfer import MooncakeError, TransferEndpoint

_LOG: Final = logging.getLogger("simulator")
READY_LINE: Final = "The server is fired up and ready to roll!"
"""SGLang's readiness line, word for word."""
_BREAK_SECONDS: Final = 0.5
"""Between half an answer and the break: a proxy that sees both at once passes on neither."""
_CHILD: Final = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class Options:
    """How to serve.

    Attributes:
        role: One of `misbehaviour.ROLES`.
        model_path: Folder of the model.
        served_model_name: Name to serve it under.
        host: Address to listen on and to announce to Mooncake's peers.
        port: Port of the endpoints.
        bootstrap_port: Port where prefill is asked for KV caches; the other roles do not use it.
        transport: ``tcp`` or ``rdma``.
        misbehaving: What to do wrong.
    """

    role: str
    model_path: str
    served_model_name: str
    host: str
    port: int
    bootstrap_port: int
    transport: str
    misbehaving: Misbehaving


class _Server(ThreadingHTTPServer):
    """A threading server whose stuck connections never keep the process alive."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 -- the base class's
        """Log a broken connection in one line."""
        _LOG.warning("connection from %s broke: %r", client_address[0], sys.exception())


class _Handler(BaseHTTPRequestHandler):
    """What both servers share."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def route(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    def read_body(self) -> bytes:
        """Read what the request carries."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, reply: Reply) -> None:
        """Send a reply, or its first half."""
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        content = b"".join(reply.body)
        if reply.streamed:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if reply.streamed:
            pieces = reply.body if reply.complete else reply.body[: len(reply.body) // 2]
            for number, piece in enumerate(pieces):
                threading.Event().wait(reply.pause if number else 0)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                self.wfile.flush()
            if reply.complete:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(content if reply.complete else content[: len(content) // 2])
        self.wfile.flush()
        if not reply.complete:
            threading.Event().wait(_BREAK_SECONDS)
            self.close_connection = True

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Refuse what is no HTTP/1 request as uvicorn does: the router probes for HTTP/2."""
        self.request_version = self.protocol_version
        self.close_connection = True
        status = HTTPStatus.BAD_REQUEST if code == HTTPStatus.HTTP_VERSION_NOT_SUPPORTED else code
        self.send(text_reply("Invalid HTTP request received.", status))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's signature
        """Log to where everything else is logged."""
        _LOG.info(f"{self.client_address[0]} {format}", *args)


def _service_handler(service: Service) -> type[_Handler]:
    class Handler(_Handler):
        """The endpoints of the server's port."""

        def do_GET(self) -> None:
            """Answer a GET."""
            self.send(service.get(self.route))

        def do_POST(self) -> None:
            """Answer a POST."""
            body = self.read_body()
            if self.route not in INFERENCE_PATHS:
                self.send(service.get(self.route))
                return
            self.send(service.infer(self.route, body))
            service.sent()

    return Handler


def _bootstrap_handler(meeting: rooms.Rooms) -> type[_Handler]:
    class Handler(_Handler):
        """The endpoints of prefill's bootstrap port."""

        def do_GET(self) -> None:
            """Answer ``/health``."""
            self.send(text_reply("OK", HTTPStatus.OK if self.route == "/health" else HTTPStatus.NOT_FOUND))

        def do_POST(self) -> None:
            """Deliver a KV cache."""
            try:
                body = json.loads(self.read_body())
            except ValueError as error:
                self.send(json_reply({"error": f"the body is not JSON: {error}"}, HTTPStatus.BAD_REQUEST))
                return
            status, content = rooms.serve_claim(meeting, body)
            self.send(json_reply(content, status))

    return Handler


def serve(options: Options) -> int:
    """Serve until a signal (or a misbehaviour) ends it.

    Args:
        options: How to serve.

    Returns:
        The exit code. The caller has to end the process with `os._exit`: Mooncake's destructor takes a
        second, and threads of stuck requests may still be alive.

    Raises:
        RuntimeError: Misbehaviour ``die-before-ready``.
    """
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="[%(asctime)s] %(message)s")
    misbehaving = options.misbehaving
    _LOG.info("simulator %s: no verdict about a product comes from it; role %s", VERSION, options.role)
    if misbehaving.values:
        _LOG.info("misbehaving: %s", misbehaving)
    if "die-before-ready" in misbehaving:
        message = "simulated failure before readiness"
        raise RuntimeError(message)
    if (words := misbehaving.text("last-words")) is not None:
        _write_line(words)
        return 1
    try:
        model = Model.load(options.model_path)
        metrics = Metrics(
            OTHER_MODEL if "wrong-model" in misbehaving else options.served_model_name,
            options.role,
            misbehaving.seconds("late-counters"),
        )
        engine, meeting = _make_engine(options, model, metrics)
        if "ready-but-dead" in misbehaving:
            _LOG.info(READY_LINE)
            return 1
        identity = Identity(model, options.served_model_name, options.role, _shown(options))
        service = Service(identity, engine, metrics, misbehaving)
        servers = [_Server((options.host, options.port), _service_handler(service))]
        if meeting is not None:
            servers.append(_Server((options.host, options.bootstrap_port), _bootstrap_handler(meeting)))
    except (ModelError, MooncakeError) as error:
        _LOG.error("cannot start: %s", error)
        return 1
    except OSError as error:
        ports = f"{options.port}" + (f" or {options.bootstrap_port}" if options.role == PREFILL else "")
        _LOG.error("cannot start: listening on %s port %s failed: %s", options.host, ports, error)
        return 1
    exits = _exit_requests(misbehaving)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    _LOG.info(READY_LINE)
    if (words := misbehaving.text("say")) is not None:
        _write_line(words)
    code, reason = exits.get()
    _LOG.info("ending: %s", reason)
    return code


def _write_line(words: str) -> None:
    """Write a line to the log as another program would: without this one's date."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def _make_engine(options: Options, model: Model, metrics: Metrics) -> tuple[Engine, rooms.Rooms | None]:
    if options.role == SINGLE:
        return SingleEngine(model, metrics), None
    _LOG.info("Mooncake: asked for transport %s; its own log lines say what it installed", options.transport)
    endpoint = TransferEndpoint(options.host, options.transport, model.kv_bytes(CONTEXT_LENGTH))
    _LOG.info("Mooncake: session %s", endpoint.session)
    if options.role == DECODE:
        return DecodeEngine(model, metrics, endpoint, options.misbehaving), None
    prefill = PrefillEngine(model, metrics, endpoint, options.misbehaving)
    return prefill, prefill.rooms


def _shown(options: Options) -> dict[str, Any]:
    return {
        "host": options.host,
        "port": options.port,
        "disaggregation_bootstrap_port": options.bootstrap_port,
        "disaggregation_transfer_backend": "mooncake",
        "transport": options.transport,
    }


def _exit_requests(misbehaving: Misbehaving) -> "queue.SimpleQueue[tuple[int, str]]":
    """Prepare every way in which a serving process ends, and the child that may outlive it."""
    # SimpleQueue, because its put may be called from a signal handler that interrupts its get.
    exits: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        if "ignore-sigterm" in misbehaving:
            signal.signal(number, signal.SIG_IGN)
        else:
            signal.signal(number, lambda caught, _: exits.put((0, signal.Signals(caught).name)))
    if "exit-after-start" in misbehaving:
        seconds = misbehaving.seconds("exit-after-start")
        timer = threading.Timer(seconds, exits.put, [(1, f"exit-after-start={seconds:g}")])
        timer.daemon = True
        timer.start()
    if "leave-child" in misbehaving:
        _LOG.info("left child: pid %d", _leave_child())
    return exits


def _leave_child() -> int:
    """Start the process of ``leave-child``; return its pid once it ignores signals."""
    command = [sys.executable, "-c", _CHILD, "pyharness-simulator-left-child"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child.pid


def leave(code: int) -> None:
    """End the process at once, with its logs written."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
