"""A program in the place of vLLM's server: its arguments, its doors, and what its MooncakeConnector is told.

No model and no KV cache: it shows how the roles start a server and what the proxy says to it. `GET /seen` has the
``kv_transfer_params`` of all requests so far.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ENGINE_ID = f"engine-{os.getpid()}"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Door(BaseHTTPRequestHandler):
    """The server's doors, and those of its bootstrap server."""

    protocol_version = "HTTP/1.1"
    model = ""
    seen: list[Any] = []  # noqa: RUF012 (one for all requests, on purpose)

    def do_GET(self) -> None:
        """Answer what is asked about the server."""
        doors: dict[str, Any] = {
            "/health": {},
            "/v1/models": {"data": [{"id": self.model}]},
            "/query": {"0": {"engine_id": ENGINE_ID}},
            "/seen": self.seen,
        }
        self._reply(200 if self.path in doors else 404, doors.get(self.path, {}))

    def do_POST(self) -> None:
        """Answer a request, having looked at what it says of the KV cache."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told = body.get("kv_transfer_params") or {}
        self.seen.append(told)
        if told.get("do_remote_prefill"):
            with OPENER.open(f"{told['remote_bootstrap_addr']}/query", timeout=5) as answer:
                if json.load(answer)["0"]["engine_id"] != told["remote_engine_id"]:
                    self._reply(500, {"error": {"message": "prefill's engine is another one"}})
                    return
        text = "one token" if body.get("max_tokens") == 1 else "a whole answer"
        choice = {"index": 0, "text": text, "finish_reason": "length"}
        self._reply(200, {"choices": [choice], "usage": {"prompt_tokens": 3}})

    def _reply(self, status: int, document: Any) -> None:
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def main() -> None:
    """Serve as vLLM would with these arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--kv-transfer-config", type=json.loads, default={})
    given, _others = parser.parse_known_args()
    if not given.model.is_dir():
        sys.exit(f"there is no model in {given.model}")
    Door.model = given.served_model_name
    if given.kv_transfer_config.get("kv_role") == "kv_producer":
        port = int(os.environ["VLLM_MOONCAKE_BOOTSTRAP_PORT"])
        bootstrap = ThreadingHTTPServer((os.environ["VLLM_HOST_IP"], port), Door)
        threading.Thread(target=bootstrap.serve_forever, daemon=True).start()
    ThreadingHTTPServer((given.host, given.port), Door).serve_forever()


if __name__ == "__main__":
    main()
