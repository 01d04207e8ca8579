"""What is up already and is measured as it is: its URL, and whether it serves the model."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import requests

from pyharness.errors import UsageError

_ASK_SECONDS = 10
# For services that are up to find each other.
_SERVED_SECONDS = 60
_LOOK_SECONDS = 0.2


def check(url: str) -> None:
    """Refuse what is no URL of a service, or what is not to be seen by others.

    Raises:
        UsageError: it will not do.
    """
    try:
        parts = urlsplit(url)
        host, secret = parts.hostname, parts.username or parts.password
    except ValueError as error:
        raise UsageError(f"--url {url}: {error}; give one such as http://127.0.0.11:8000") from error
    if secret:
        raise UsageError(
            "--url: holds a user or a password, which every process of this machine could read; leave it out"
        )
    if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError(f"--url {url}: has to be http:// or https://, a host and a port, without a path")


def serves(url: str, model: str) -> None:
    """See that a service that is up serves the model (https://platform.openai.com/docs/api-reference/models/list).

    Raises:
        UsageError: it does not.
    """
    try:
        answer = requests.get(f"{url.rstrip('/')}/v1/models", timeout=_ASK_SECONDS)
        answer.raise_for_status()
        served = [str(entry["id"]) for entry in answer.json()["data"]]
    except (requests.RequestException, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--url {url}: /v1/models does not answer as OpenAI's does ({error}); is it up?") from error
    if model not in served:
        raise UsageError(f"--url {url}: serves {', '.join(served) or 'no model'} and not {model}; choose it by --model")


def until_served(url: str, model: str) -> None:
    """Wait until a service that is up serves the model.

    Raises:
        UsageError: it does not in time; what it said last.
    """
    deadline = time.monotonic() + _SERVED_SECONDS
    while True:
        try:
            serves(url, model)
        except UsageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)  # the interval of looking; the deadline decides
        else:
            return
