"""Mooncake's own HTTP metadata server, with the ``/health`` that it lacks.

Everything else is ``mooncake.http_metadata_server`` of the wheel (0.3): ``GET``, ``PUT`` and ``DELETE /metadata?key=``.
``/health`` answers 200 once it listens, as the one in Mooncake's master does.

Example: ``python metadata_server.py --host 127.0.0.11 --port 18080``
"""

from __future__ import annotations

import argparse
import logging
import sys

from aiohttp import web
from mooncake.http_metadata_server import KVBootstrapServer


async def health(_request: web.Request) -> web.Response:
    """Answer that it serves."""
    return web.Response(text="OK")


def main() -> int:
    """Serve until it is ended. Returns 1 when it could not begin, for its log to say why."""
    parser = argparse.ArgumentParser(description="Mooncake's HTTP metadata server, with /health.")
    parser.add_argument("--host", required=True, help="address to listen on")
    parser.add_argument("--port", required=True, type=int, help="port to listen on")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    server = KVBootstrapServer(arguments.port, arguments.host)
    server.app.router.add_get("/health", health)
    server.run().join()
    return 1


if __name__ == "__main__":
    sys.exit(main())
