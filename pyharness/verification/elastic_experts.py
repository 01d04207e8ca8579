"""A model whose experts are spread over ranks, with Mooncake for the ranks' collective operations.

SGLang's `--elastic-ep-backend mooncake`. That it is asked for and that the wheel's process group is loaded does not say
that it is used: SGLang 0.5.23 takes the option on any device, and uses it on cuda only (`_resolve_backend` in
srt/distributed/bootstrap.py). On a CPU, where ranks have no other way than TCP, the kernel's count of the bytes at
Mooncake's own doors says it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pyharness.verification import server_info
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.deployment import Service
    from pyharness.verification.base import Trial
    from pyharness.verification.links import Seen

# What Mooncake 0.3.13 logs of each of its TCP transports.
_DOOR = re.compile(r"TcpTransport: listen on port (\d+)")
_FLOAT32 = 4


def experts_spread(trial: Trial) -> Evidence:
    """Check by the server's own account that the model has experts, on so many ranks, with Mooncake between them."""
    ranks = int(trial.workload["expert_parallel"])
    wanted = {"tp_size": ranks, "ep_size": ranks, "elastic_ep_backend": "mooncake"}
    evidence = server_info.as_deployed(trial, {"single": wanted})
    config = trial.deployment.served.config
    evidence["routed_experts"] = None if config is None else config.get("n_routed_experts", 0)
    if config is not None and not evidence["routed_experts"]:
        raise CheckFailed(
            f"{trial.deployment.served.name} has no experts that could be spread: there is no n_routed_experts in its "
            "config.json",
            evidence,
            hint="disagg_models of the inventory names another model, or a stand-in without experts",
            class_="configuration",
            spoils_judgement=True,
        )
    return evidence


def mooncake_doors(trial: Trial, service: Service) -> set[int]:
    """Return the ports at which a service's ranks take what Mooncake brings over TCP, as its log names them."""
    host = trial.nodes.host(service.node)
    if service.container:
        done = host.run("docker logs %s 2>&1", service.container["name"])
    else:
        done = host.run("cat %s", service.log)
    return {int(port) for port in _DOOR.findall(done.stdout)}


def least_bytes(config: dict[str, Any] | None, tokens: int) -> int:
    """Return what a rank has to get from another one at least while so many tokens are computed.

    After each layer with experts the ranks add up what their experts gave: a row of hidden numbers for each token.

    Args:
        config: the model's config.json; None where it is not known, for which anything is enough.
        tokens: prompt and answer.
    """
    if config is None:
        return 1
    layers = int(config["num_hidden_layers"]) - int(config.get("first_k_dense_replace", 0))
    return tokens * layers * int(config["hidden_size"]) * _FLOAT32


def _arrived(service: Service, doors: set[int], seen: Seen) -> dict[tuple[str, int, str, int], int]:
    """Return the bytes that came in at Mooncake's doors so far, by connection."""
    return {
        (entry["address"], entry["port"], entry["remote_address"], entry["remote_port"]): int(entry["bytes_received"])
        for entry in seen[service.node]["services"][service.name]["connections"] or []
        if entry["port"] in doors
    }


def collectives_over_mooncake(trial: Trial, before: Seen, after: Seen, tokens: int) -> Evidence:
    """Check that the ranks' collective operations went through Mooncake while an answer was computed.

    Args:
        trial: whose server.
        before: what the kernel had counted before the request.
        after: and after it.
        tokens: how many were computed, in prompt and answer.
    """
    (service,) = trial.deployment.of_kind("single")
    doors = mooncake_doors(trial, service)
    then, now = (_arrived(service, doors, seen) for seen in (before, after))
    came: dict[int, int] = dict.fromkeys(sorted(doors), 0)
    for key, count in now.items():
        came[key[1]] += count - then.get(key, 0)
    needed = least_bytes(trial.deployment.served.config, tokens)
    ranks = int(trial.workload["expert_parallel"])
    evidence: Evidence = {
        "witness": "TCP connections at the ports of Mooncake's transport (tcp_info)",
        "received_by_port": {str(port): count for port, count in came.items()},
        "needed": needed,
        "tokens": tokens,
    }
    used = [port for port, count in came.items() if count >= needed]
    if len(used) < ranks:
        raise CheckFailed(
            f"of {ranks} ranks {len(used)} got their share of the experts' sums through Mooncake: "
            f"{came or 'no door of Mooncake is known'} bytes at its doors, and {needed} were needed at each",
            evidence,
            hint=f"see in {service.log} which backend torch.distributed has; SGLang takes another one in silence",
        )
    return evidence
