"""Decode took the prompt's KV cache from prefill, by the tokens that the servers count.

For engines that count tokens by where they came from, and no bytes. That bytes crossed as well is the kernel's to say:
transfer.transport_used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyharness.verification import wires
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.engines.base import Counters
    from pyharness.verification.base import Trial
    from pyharness.verification.wires import Snapshot


def _change(before: Counters, after: Counters) -> dict[str, int | None]:
    pairs = {
        "computed_tokens": (before.computed_tokens, after.computed_tokens),
        "external_tokens": (before.external_tokens, after.external_tokens),
    }
    return {name: None if then is None or now is None else now - then for name, (then, now) in pairs.items()}


def kv_cache_moved(trial: Trial, before: Snapshot, after: Snapshot, prompt_tokens: int | None) -> Evidence:
    """Check that prefill computed the prompt's tokens, and that decode took them all and computed none.

    Args:
        trial: the deployment, with one prefill and one decode server.
        before: what had been counted before the request.
        after: what has been counted since.
        prompt_tokens: length of the prompt, as the answer says.
    """
    deployment = trial.deployment
    counted = {name: _change(then, after.counters[name]) for name, then in before.counters.items()}
    evidence: Evidence = {
        "prompt_tokens": prompt_tokens,
        "counters": counted,
        "tcp_bytes": wires.tcp_bytes(deployment, before, after),
    }
    (prefill,), (decode,) = deployment.of_kind("prefill"), deployment.of_kind("decode")
    silent = [
        service.name for service in (prefill, decode) if any(value is None for value in counted[service.name].values())
    ]
    if silent or prompt_tokens is None:
        who = f"{' and '.join(silent)} does not say" if silent else "the answer does not say how many tokens it had, or"
        raise CheckFailed(
            f"{who} where the prompt's tokens came from",
            evidence,
            hint="see the servers' /metrics: the engine may have renamed its counters",
            class_="product" if silent else "test",
        )
    computed, taken = counted[decode.name]["computed_tokens"], counted[decode.name]["external_tokens"]
    if computed or taken != prompt_tokens:
        raise CheckFailed(
            f"decode ({decode.name} on {decode.node}) computed {computed} of the prompt's {prompt_tokens} tokens "
            f"itself and took {taken} from prefill, instead of taking them all",
            evidence,
            hint="decode computes what no request told it to fetch, and what it could not fetch: see its log",
        )
    if counted[prefill.name]["computed_tokens"] != prompt_tokens:
        raise CheckFailed(
            f"prefill ({prefill.name} on {prefill.node}) computed {counted[prefill.name]['computed_tokens']} of the "
            f"prompt's {prompt_tokens} tokens, so it is not known where decode's come from",
            evidence,
            hint="other requests reached prefill meanwhile, or the prompt was cached: see its /metrics",
        )
    return evidence
