"""A server runs as the deployment wants it, by its own account.

SGLang answers GET /server_info with its settings after it has resolved them (sglang 0.5.23,
srt/entrypoints/http_server.py), so what an argument was overridden by shows there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyharness import exercise
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyharness.deployment import Service
    from pyharness.verification.base import Trial

_PATH = "/server_info"
_ANSWER_SECONDS = 10.0


def read(service: Service) -> dict[str, Any]:
    """Return a server's settings.

    Raises:
        CheckFailed: it does not say.
    """
    exchange = exercise.get(service.url + _PATH, _ANSWER_SECONDS)
    try:
        settings = exchange.json()
    except ValueError:
        settings = None
    if exchange.status != 200 or not isinstance(settings, dict):
        problem = exchange.problem or f"HTTP {exchange.status}"
        raise CheckFailed(
            f"{service.name} on {service.node} does not say how it runs: {problem}",
            {"exchange": exchange.transcript()[:2000]},
            hint=f"read {service.log} on {service.node}",
        )
    return settings


def as_deployed(trial: Trial, wanted: Mapping[str, Mapping[str, Any]]) -> Evidence:
    """Check settings of servers.

    Args:
        trial: whose servers.
        wanted: by kind of service the settings that it has to have, under SGLang's names.

    Returns:
        by service what it said of those settings.

    Raises:
        CheckFailed: a server runs otherwise. The caller's failure: the server does what its arguments say.
    """
    evidence: Evidence = {}
    for kind, settings in wanted.items():
        for service in trial.deployment.of_kind(kind):
            said = read(service)
            evidence[service.name] = {name: said.get(name) for name in settings}
            for name, value in settings.items():
                if said.get(name) != value:
                    raise CheckFailed(
                        f"{service.name} on {service.node} runs with {name} {said.get(name)!r}, and {value!r} was "
                        "asked for",
                        evidence,
                        hint=f"an extra argument of the inventory overrides it: see {service.name}'s command in "
                        "deployment.json",
                        class_="configuration",
                        spoils_judgement=True,
                    )
    return evidence
