"""The verb `bench` with the real aiperf, against servers made up to succeed, to fail now and then, and to fail always."""

from __future__ import annotations

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import cli
from tests.integration.conftest import tokenizer_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

requires = "aiperf"
