"""A long prompt that SGLang has to take out of Mooncake Store.

It is asked three times: while nothing of it is cached, while the device has it, and after device and host forgot it.
The second and the third answer are computed alike, from pages that exist, so their texts have to be the same letter by
letter. The first reads the whole prompt at once, which on a GPU is the same sum in another order.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyharness.engines import sglang_cache
from pyharness.kv_cache import bytes_per_token
from pyharness.verification import answer, blame, evaluation, hicache, storage
from pyharness.verification.base import CheckFailed, Evidence

if TYPE_CHECKING:
    from pyharness.engines.base import Answer
    from pyharness.engines.sglang_cache import CacheCounters, CachedTokens
    from pyharness.exercise import Exchange
    from pyharness.verification.base import Trial

# A scheduler writes its counters in its own time.
_COUNTERS_LATE_SECONDS = 5.0


@dataclass
class LongPrompt:
    """The prompt, and what came of it so far.

    Attributes:
        trial: whose server is asked.
        asked: the answers, in order: nothing cached, from the device, after the flush.
        found: where the tokens of each came from.
    """

    trial: Trial
    asked: list[Answer] = field(default_factory=list)
    found: list[CachedTokens] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the prompt: the same for the same seed."""
        workload = self.trial.workload
        prompt = evaluation.prompt_of_words(str(workload["seed"]), int(workload["prompt_words"]))
        parameters = {"temperature": 0, "max_new_tokens": int(workload["new_tokens"])}
        self._body: dict[str, Any] = {"text": prompt, "sampling_params": parameters}
        self._url = self.trial.deployment.entry + self.trial.case.asked.path
        self._before: tuple[CacheCounters, storage.MasterCounters] | None = None

    def _send(self, body: dict[str, Any]) -> Exchange:
        done = self.trial.send(self._url, body, self.trial.case.asked.timeout_seconds)
        blame.failed_request(self.trial, done)
        return done

    def _ask(self) -> CachedTokens:
        """Ask with the long prompt, and note what came of it."""
        done = self._send(self._body)
        self.asked.append(answer.read_answer(done, self.trial.engine))
        try:
            self.found.append(sglang_cache.cached_tokens(done.json()))
        except ValueError as error:
            raise CheckFailed(str(error), {"exchange": done.transcript()[:2000]}, hint=hicache.READ_THE_LOG) from error
        return self.found[-1]

    def one_token(self) -> Evidence:
        """Check that a request for one token comes back."""
        done = self._send(self.trial.engine.one_token(self.trial.case.asked.body))
        text = answer.read_answer(done, self.trial.engine).text
        return {"url": self._url, "seconds": round(done.seconds, 3), "text": text}

    def short_answer(self) -> Evidence:
        """Check the declared request against the reference, which has no hierarchical cache."""
        request, reference = self.trial.case.asked, self.trial.deployment.reference
        done = self._send(request.body)
        return answer.answer_correct(done, self.trial.engine, reference.answer, reference.method, request.pattern)

    def ask_twice(self) -> Evidence:
        """Ask while nothing is cached and once more, and check that the master comes to have all whole pages."""
        trial = self.trial
        before = storage.pages(trial)
        first = self._ask()
        tokens = self.asked[0].prompt_tokens or 0
        if first.total:
            raise CheckFailed(
                f"{first.total} tokens of a prompt that was never asked before were cached",
                {"cached": vars(first)},
                hint="another prompt of this run begins alike, or the store is not this run's own",
                class_="test",
            )
        expected = tokens // int(trial.workload["page_size"])
        new = storage.wait_for_pages(trial, before, expected, hicache.ranks(trial))
        second = self._ask()
        return {
            "prompt_tokens": tokens,
            "pages": expected,
            "keys": sum(len(parts) for parts in new.values()),
            "parts_of_a_page": sorted(next(iter(new.values()), set())),
            "cached_the_second_time": vars(second),
        }

    def ask_after_flush(self) -> Evidence:
        """Flush, ask again, and check that neither the device nor the host had anything left."""
        self._before = (hicache.counters(self.trial), storage.counters(self.trial))
        done = hicache.flush(self.trial)
        found = self._ask()
        evidence = {"flush": (done.body or "").strip()[:200], "cached": vars(found)}
        if found.device or found.host:
            raise CheckFailed(
                f"after the flush {found.device} tokens of the prompt came from the device and {found.host} from the "
                f"host's memory: HTTP {done.status} of {sglang_cache.FLUSH_PATH} was not true",
                evidence,
                hint="a server that holds requests does not flush; nothing follows for the storage",
            )
        return evidence

    def served_from_storage(self) -> Evidence:
        """Check that enough of the prompt came from Mooncake."""
        found, least = self.found[-1], int(self.trial.workload["min_storage_tokens"])
        tokens = self.asked[-1].prompt_tokens
        evidence = {"prompt_tokens": tokens, "cached": vars(found), "least": least}
        if found.storage < least or found.backend != "MooncakeStore":
            raise CheckFailed(
                f"{found.storage} of {tokens} tokens came from the storage ({found.backend}) after the flush, and at "
                f"least {least} had to come from Mooncake",
                evidence,
                hint="the master had all pages before the flush: see the server's log for 'HiCache prefetch', and the "
                "master's for evictions",
            )
        return evidence

    def same_text(self) -> Evidence:
        """Check that the text out of the storage is the one out of the device's cache."""
        before, after = self.asked[1].text, self.asked[2].text
        evidence = {"nothing_cached": self.asked[0].text, "from_device": before, "from_storage": after}
        if before != after:
            raise CheckFailed(
                f"the text out of the storage is not the one before the flush: {after[:100]!r} instead of "
                f"{before[:100]!r}",
                evidence,
                hint="pages that come back damaged, or in another layout than they were written in, do this",
            )
        return evidence

    def storage_counted(self) -> Evidence:
        """Check the second witnesses: the server's counter, and the bytes that the master had for it."""
        if self._before is None:
            raise CheckFailed("nothing was counted before the flush", {}, hint="report this", class_="test")
        trial, (server_before, master_before) = self.trial, self._before
        wanted, config = self.found[-1].storage, trial.deployment.served.config
        least = wanted * bytes_per_token(config) if config else 1
        deadline = time.monotonic() + _COUNTERS_LATE_SECONDS
        while True:
            counted = hicache.counters(trial).from_storage - server_before.from_storage
            master = storage.counters(trial)
            read, given = master.read - master_before.read, master.hit_bytes - master_before.hit_bytes
            # One rank reads exactly the prompt's pages. Of several, each reads its own share, or with MLA all of it.
            right = given == least if config and hicache.ranks(trial) == 1 else given >= least
            if (counted == wanted and right) or time.monotonic() > deadline:
                break
            time.sleep(hicache.POLL_SECONDS)
        evidence = {
            "tokens": {"in_the_answer": wanted, "counted_by_the_server": counted},
            "bytes": {"of_these_tokens": least if config else None, "had_by_the_master": given},
            "objects_asked_of_the_master": read,
        }
        if counted != wanted or not right:
            raise CheckFailed(
                f"the answer says that {wanted} tokens came from the storage; the server counted {counted}, and the "
                f"master had {given} bytes for it where {least} are expected",
                evidence,
                hint="see both /metrics: what the answer claims was not read from this store",
            )
        return evidence
