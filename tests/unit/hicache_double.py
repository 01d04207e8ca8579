"""Stand-ins for SGLang with its hierarchical cache and for Mooncake's master, which can be told to do wrong."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pyharness import case, exercise
from tests.unit.builders import BYTES_PER_TOKEN, FakeNodes, make_deployment, make_service, make_trial
from tests.unit.fake_http import Answer, FakeServer, Request, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyharness.verification.base import Trial

CASE = case.load("test_hicache_storage_mooncake_backend")
PAGE = 4
WORKLOAD = {
    **CASE.workload,
    "page_size": PAGE,
    "prompt_words": 18,
    "min_storage_tokens": 16,
    "storage_timeout": 0.3,
    "flush_timeout": 1,
    "arena_bytes": 3 * 1024 * 1024,
    "evaluation": "seeded",
    "evaluation_questions": 3,
    "evaluation_words": 9,
    "evaluation_workers": 2,
    "evaluation_max_difference": 0,
}
RIGHT = "once upon a time"


class Double:
    """One server and its master. A token is a word; what it says of a prompt is a digest of it.

    Attributes:
        parts: the parts of which it writes each page; keys and values of one rank.
        misbehaves: what it does wrong: `deaf` (a flush does nothing), `refuses` (a flush), `silent` (writes nothing),
            `forgets` (the storage loses all at a flush), `garbles` (the text out of the storage), `boasts` (says
            storage and reads nothing there), `prompts` (finds what it never saw), `plain` (no report of caches).
        settings: what it says in /server_info.
        text: what it answers to the declared request.
    """

    def __init__(self, *misbehaves: str, parts: tuple[str, ...] = ("0_k", "0_v")) -> None:
        self.parts, self.misbehaves, self.text = parts, set(misbehaves), RIGHT
        self.near: dict[str, set[str]] = {"device": set(), "host": set()}
        self.stored: dict[str, tuple[str, ...]] = {}
        self.counted = {"from_storage": 0, "to_host": 0, "to_storage": 0, "hit_bytes": 0, "read": 0}
        self.settings: dict[str, Any] = {
            "enable_hierarchical_cache": True,
            "hicache_storage_backend": "mooncake",
            "hicache_mem_layout": "page_first_direct",
            "hicache_io_backend": "direct",
            "page_size": PAGE,
        }

    def generate(self, request: Request) -> Answer:
        """Answer /generate."""
        body = json.loads(request.body)
        words = body["text"].split()
        names = [hashlib.sha256(" ".join(words[:end]).encode()).hexdigest() for end in range(PAGE, len(words), PAGE)]
        found = {place: self._prefix(names, place) * PAGE for place in ("device", "host", "storage")}
        details = self._details(found)
        if details["storage"]:
            self.counted["from_storage"] += details["storage"]
            if "boasts" not in self.misbehaves:
                self.counted["hit_bytes"] += details["storage"] * BYTES_PER_TOKEN
                self.counted["read"] += details["storage"] // PAGE * len(self.parts)
        self._keep(names)
        garbled = details["storage"] and "garbles" in self.misbehaves
        text = self.text if len(words) < PAGE * 2 else f"{'x' if garbled else ''}{names[-1][:12]}"
        meta: dict[str, Any] = {"prompt_tokens": len(words), "cached_tokens": sum(details.values())}
        if sum(details.values()) and "plain" not in self.misbehaves:
            meta["cached_tokens_details"] = {**details, "storage_backend": "MooncakeStore"}
        return Answer(body={"text": text, "meta_info": meta})

    def _details(self, found: dict[str, int]) -> dict[str, int]:
        if "prompts" in self.misbehaves:
            return {"device": 8, "host": 0, "storage": 0}
        near = max(found["device"], found["host"])
        return {"device": near, "host": 0, "storage": max(0, found["storage"] - near)}

    def _prefix(self, names: list[str], place: str) -> int:
        """Return how many of the pages, from the first on, are there."""
        have = self.stored if place == "storage" else self.near[place]
        return next((n for n, name in enumerate(names) if name not in have), len(names))

    def _keep(self, names: list[str]) -> None:
        self.counted["to_host"] += PAGE * len([name for name in names if name not in self.near["host"]])
        for place in self.near.values():
            place.update(names)
        if "silent" not in self.misbehaves:
            self.stored.update(dict.fromkeys(names, self.parts))
            self.counted["to_storage"] = self.counted["to_host"]

    def flush(self, _request: Request) -> Answer:
        """Answer /flush_cache."""
        if "refuses" in self.misbehaves:
            return Answer(400, b"Flush cache failed.\n")
        if "forgets" in self.misbehaves:
            self.stored.clear()
        if "deaf" not in self.misbehaves:
            self.near = {"device": set(), "host": set()}
        return Answer(body=b"Cache flushed.\n")

    def server_metrics(self, _request: Request) -> Answer:
        """Answer the server's /metrics."""
        lines = [
            f'sglang:cached_tokens_total{{cache_source="storage"}} {self.counted["from_storage"]}',
            'sglang:cached_tokens_total{cache_source="device"} 99',
            f'sglang:hicache_backup_tokens_total{{pool="kv",tp_rank="0"}} {self.counted["to_host"]}',
            f'sglang:backuped_tokens_total{{tp_rank="0"}} {self.counted["to_storage"]}',
        ]
        return Answer(body="\n".join([*lines, ""]).encode())

    def master_metrics(self, _request: Request) -> Answer:
        """Answer the master's /metrics."""
        written = sum(len(parts) for parts in self.stored.values())
        lines = [
            f"mem_cache_hit_bytes_total {self.counted['hit_bytes']}",
            "master_get_replica_list_requests_total 1",
            f"master_batch_get_replica_list_items_total {self.counted['read']}",
            "master_put_end_requests_total 1",
            f"master_batch_put_end_items_total {written}",
        ]
        return Answer(body="\n".join([*lines, ""]).encode())

    def keys(self, _request: Request) -> Answer:
        """Answer the master's /get_all_keys, another model's pages and the warm-up's key among them."""
        own = [f"org-model_{name}_{part}" for name, parts in self.stored.items() for part in parts]
        others = [f"org-other_{'a' * 64}_0_k", "sglang_mooncake_store_warmup_key0123456789abcdef"]
        return Answer(body="\n".join([*own, *others]).encode())

    def serve(self, server: FakeServer, master: FakeServer) -> None:
        """Take over two HTTP servers."""
        server.answers |= {"/generate": self.generate, "/flush_cache": self.flush, "/metrics": self.server_metrics}
        server.answers["/server_info"] = lambda _request: Answer(body=self.settings)
        master.answers |= {"/get_all_keys": self.keys, "/metrics": self.master_metrics}


@contextmanager
def on_trial(
    double: Double, logs: Path, *, variant: str = "page_first_direct", ranks: int = 1, **workload: Any
) -> Iterator[Trial]:
    """Serve a double, and yield what checks look at."""
    with ExitStack() as stack:
        server, master = (stack.enter_context(serving(f"127.0.0.{end}")) for end in (41, 42))
        double.serve(server, master)
        template = make_service("prefill", command=["python3", "--tp-size", str(ranks)])
        single = {"name": "single", "kind": "single", "url": server.url, "port": server.server_address[1]}
        services = [
            template.model_copy(update=single),
            template.model_copy(update={"name": "master", "kind": "master", "url": master.url}),
        ]
        deployment = make_deployment(
            entry=server.url,
            nodes=["one"],
            services=[service.model_dump() for service in services],
            variant=variant,
            workload={**WORKLOAD, **workload},
            reference={"method": "transformers", "answer": {"text": RIGHT, "prompt_tokens": 7}},
        )
        nodes = FakeNodes({"one": {"services": {}, "reached": []}})
        yield make_trial(nodes, deployment, case=CASE, logs=logs, send=exercise.post)
