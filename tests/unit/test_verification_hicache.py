"""A cache that gives back what it took passes; each way in which it does not is told, and told from the others."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pyharness.engines.sglang_cache import CacheCounters
from pyharness.verification import arena, hicache, services, wheel
from pyharness.verification import test_hicache_storage_mooncake_backend as job
from pyharness.verification.base import CheckFailed
from tests.unit.builders import FakeNodes, make_trial
from tests.unit.hicache_double import Double, on_trial

if TYPE_CHECKING:
    from pathlib import Path

    from pyharness.verification.base import Recorder

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

ASKED = job.CHECKS[4:]


def exercised(logs: Path, *misbehaves: str, **changes: Any) -> Recorder:
    parts = {"parts": changes.pop("parts")} if "parts" in changes else {}
    with on_trial(Double(*misbehaves, **parts), logs, **changes) as trial:
        job.exercise(trial)
    return trial.recorder


def statuses(recorder: Recorder) -> dict[str, str]:
    return {check.id: check.status for check in recorder.checks}


def only_failure(recorder: Recorder, check: str) -> str:
    assert [failure.check for failure in recorder.failures] == [check]
    return recorder.failures[0].evidence


def test_a_cache_that_gives_back_what_it_took_passes_every_check(tmp_path: Path) -> None:
    recorder = exercised(tmp_path)

    assert not recorder.failures
    assert statuses(recorder) == dict.fromkeys(ASKED, "pass")
    evidence = {check.id: check.evidence for check in recorder.checks}
    assert evidence["pages_in_master"]["keys"] == 8
    assert evidence["storage_counted"]["bytes"] == {"of_these_tokens": 16 * 512, "had_by_the_master": 16 * 512}
    assert evidence["evaluation_agrees"]["scores"] == [1.0, 1.0]
    kept = [json.loads(line) for line in (tmp_path / "evaluation.jsonl").read_text().splitlines()]
    assert [entry["question"] for entry in kept] == ["seeded-0", "seeded-1", "seeded-2"]
    assert all(entry["cached"][0]["storage"] == 0 < entry["cached"][1]["storage"] for entry in kept)


def test_mla_has_one_part_a_page(tmp_path: Path) -> None:
    assert not exercised(tmp_path, parts=("_k",), ranks=2).failures


def test_of_two_ranks_each_has_keys_and_values(tmp_path: Path) -> None:
    assert not exercised(tmp_path, parts=("0_k", "0_v", "1_k", "1_v"), ranks=2).failures


def test_the_evaluation_is_for_the_variants_that_are_named(tmp_path: Path) -> None:
    assert "evaluation_agrees" not in statuses(exercised(tmp_path, variant="arena"))


def test_a_storage_that_loses_its_objects(tmp_path: Path) -> None:
    recorder = exercised(tmp_path, "forgets")

    told = {failure.check: failure.evidence for failure in recorder.failures}
    assert set(told) == {"served_from_storage", "evaluation_agrees"}
    assert "0 of 18 tokens came from the storage" in told["served_from_storage"]
    assert "3 of 3 questions found nothing in the storage" in told["evaluation_agrees"]


def test_a_flush_that_does_not_flush_is_told_from_a_hit_in_the_storage(tmp_path: Path) -> None:
    recorder = exercised(tmp_path, "deaf")

    assert "after the flush 16 tokens of the prompt came from the device" in only_failure(recorder, "cache_flushed")
    assert [check.id for check in recorder.checks if check.status == "skipped"] == list(job.CHECKS[8:])


def test_a_flush_that_is_refused(tmp_path: Path) -> None:
    assert "HTTP 400: Flush cache failed." in only_failure(exercised(tmp_path, "refuses"), "cache_flushed")


def test_another_text_out_of_the_storage(tmp_path: Path) -> None:
    recorder = exercised(tmp_path, "garbles")

    assert [failure.check for failure in recorder.failures] == ["same_text", "evaluation_agrees"]
    assert "1.000 of 3 questions were answered right at first and 0.000 out of the storage" in (
        recorder.failures[1].evidence
    )


def test_pages_that_the_master_does_not_get(tmp_path: Path) -> None:
    recorder = exercised(tmp_path, "silent")

    assert "the master has 0 whole pages of org/model" in only_failure(recorder, "pages_in_master")
    assert statuses(recorder)["served_from_storage"] == "skipped"


def test_pages_of_which_the_master_has_one_rank_only(tmp_path: Path) -> None:
    recorder = exercised(tmp_path, parts=("0_k", "0_v"), ranks=2)

    assert "the master has 0 whole pages" in only_failure(recorder, "pages_in_master")


def test_tokens_that_are_said_to_come_from_the_storage_and_were_not_read_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyharness.verification.hicache_prompt._COUNTERS_LATE_SECONDS", 0.1)
    recorder = exercised(tmp_path, "boasts")

    assert "the master had 0 bytes for it where 8192 are expected" in only_failure(recorder, "storage_counted")


def test_a_prompt_that_was_never_asked_is_cached(tmp_path: Path) -> None:
    recorder = exercised(tmp_path, "prompts")

    assert "8 tokens of a prompt that was never asked before were cached" in only_failure(recorder, "pages_in_master")
    assert recorder.failures[0].class_ == "test"


def test_a_server_that_does_not_say_where_its_tokens_came_from(tmp_path: Path) -> None:
    assert "--enable-cache-report" in only_failure(exercised(tmp_path, "plain"), "pages_in_master")


def test_the_declared_request_is_answered_otherwise_than_by_an_engine_without_the_cache(tmp_path: Path) -> None:
    double = Double()
    double.text = "twice upon a time"
    with on_trial(double, tmp_path) as trial:
        job.exercise(trial)

    assert "the text differs" in only_failure(trial.recorder, "answer_correct")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with on_trial(Double(), tmp_path) as trial:
        pass
    trial = make_trial(FakeNodes({"one": {"services": {}, "reached": []}}), trial.deployment, case=trial.case)
    job.exercise(trial)

    assert statuses(trial.recorder) == {"server_ready": "fail"} | dict.fromkeys(job.CHECKS[5:], "skipped")


def test_gsm8k_whose_file_is_not_there(tmp_path: Path) -> None:
    recorder = exercised(tmp_path, evaluation="gsm8k", evaluation_file=str(tmp_path / "none.jsonl"))

    assert "there is no GSM8K in" in only_failure(recorder, "evaluation_agrees")
    assert recorder.failures[0].class_ == "configuration"


def test_a_score_below_the_models_least(tmp_path: Path) -> None:
    lines = [{"question": f"{n} {' apple' * 9}?", "answer": f"so #### {n}"} for n in range(4)]
    (tmp_path / "gsm8k.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    changes = {"evaluation": "gsm8k", "evaluation_file": str(tmp_path / "gsm8k.jsonl"), "evaluation_examples": 1}
    recorder = exercised(tmp_path, **changes, evaluation_min_score={"org/model": 0.6})

    assert "each has to be above 0.6" in only_failure(recorder, "evaluation_agrees")


@pytest.mark.parametrize("name", ["hicache_mem_layout", "hicache_io_backend", "hicache_storage_backend", "page_size"])
def test_a_server_that_took_another_setting(tmp_path: Path, name: str) -> None:
    double = Double()
    double.settings[name] = "another"
    with on_trial(double, tmp_path) as trial, pytest.raises(CheckFailed, match=f"{name} is 'another'"):
        hicache.cache_as_asked(trial)


def test_a_server_with_the_settings_that_were_asked_for(tmp_path: Path) -> None:
    with on_trial(Double(), tmp_path) as trial:
        assert hicache.cache_as_asked(trial)["hicache_mem_layout"] == "page_first_direct"


def test_the_words_of_the_expected_failure_are_those_of_the_check(tmp_path: Path) -> None:
    with on_trial(Double(), tmp_path, variant="layer_first") as trial:
        trial.recorder.run("cache_as_asked", lambda: hicache.cache_as_asked(trial))
    expected = trial.case.variant("layer_first")

    assert expected is not None
    assert expected.expected_failure is not None
    assert expected.expected_failure.evidence in trial.recorder.failures[0].evidence


MAPS = """7f0000000000-7f0000400000 rw-p 00000000 00:11 57482                      /anon_hugepage (deleted)
7f0001000000-7f0001400000 rw-p 00000000 00:00 0
7f0002000000-7f0002400000 r--p 00000000 00:00 0
7f0003000000-7f0003400000 rw-s 00000000 00:01 1027                       /memfd:mooncake_shm (deleted)
7f0004000000-7f0004400000 rw-p 00000000 fe:00 1611                       /usr/lib/x86_64-linux-gnu/libc.so.6
7f0005000000-7f0005200000 rw-p 00000000 00:00 0                          [heap]
"""


class Kernel(FakeNodes):
    """Nodes whose kernel lists these mappings for two processes."""

    def __init__(self, *maps: str) -> None:
        super().__init__({"one": {"services": {"single": {"pids": list(range(101, 101 + len(maps)))}}}})
        self.maps = maps

    def host(self, _name: str) -> Any:
        listed = "\n".join(f"pid {101 + n}\n{text}" for n, text in enumerate(self.maps))
        return SimpleNamespace(run=lambda _script: SimpleNamespace(rc=0, stdout=listed, stderr=""))


def arena_of(logs: Path, *maps: str, asked: bool, ranks: int = 1) -> dict[str, Any]:
    with on_trial(Double(), logs) as trial:
        looked_at = make_trial(Kernel(*maps), trial.deployment, case=trial.case)
    return arena.arena_as_asked(looked_at, asked=asked, arena_bytes=3 * 1024 * 1024, ranks=ranks)


def test_an_arena_is_a_private_mapping_of_its_size_rounded_up(tmp_path: Path) -> None:
    evidence = arena_of(tmp_path, MAPS, asked=True)

    assert evidence["bytes"] == 4 * 1024 * 1024
    assert [entry["huge_pages"] for entry in evidence["mappings"]] == [True, False]


def test_an_arena_that_one_of_two_ranks_lacks(tmp_path: Path) -> None:
    alone = MAPS.splitlines()[0]
    with pytest.raises(CheckFailed, match="1 of 2 processes"):
        arena_of(tmp_path, alone, "", asked=True, ranks=2)


def test_an_arena_that_is_not_there_is_told_in_the_words_that_the_declaration_expects(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="Mooncake's mmap arena is not there: 0 of "):
        arena_of(tmp_path, "", asked=True)


def test_an_arena_that_was_switched_off(tmp_path: Path) -> None:
    assert arena_of(tmp_path, "", asked=False)["mappings"] == []
    with pytest.raises(CheckFailed, match="which is switched off"):
        arena_of(tmp_path, MAPS, asked=False)


def test_servers_that_are_not_ours_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def strangers(*_arguments: Any) -> dict[str, Any]:
        raise CheckFailed("answered by another", hint="end it", class_="infrastructure", spoils_judgement=True)

    monkeypatch.setattr(services, "services_are_ours", strangers)
    monkeypatch.setattr(wheel, "wheel_in_use", lambda *_arguments: {})
    with on_trial(Double(), tmp_path) as trial:
        assert job.verify(trial) is False
    assert statuses(trial.recorder)["evaluation_agrees"] == "skipped"


def test_what_runs_is_verified_before_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "services_are_ours", lambda *_arguments: {})
    monkeypatch.setattr(wheel, "wheel_in_use", lambda *_arguments: {})
    monkeypatch.setattr(arena, "mappings", lambda *_arguments: [])
    with on_trial(Double(), tmp_path) as trial:
        assert job.verify(trial) is True
    assert statuses(trial.recorder) == dict.fromkeys(job.CHECKS[:4], "pass")


def test_what_is_written_is_waited_for_until_it_is_all_there_or_nothing_more_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hicache, "_SETTLED_SECONDS", 0.3)
    counts = [CacheCounters(0, 8, n) for n in (2, 4, 6, 8)]
    monkeypatch.setattr(hicache, "counters", lambda _trial: counts.pop(0) if len(counts) > 1 else counts[0])
    with on_trial(Double(), tmp_path, storage_timeout=5) as trial:
        assert hicache.wait_until_written(trial).to_storage == 8
        counts[:] = [CacheCounters(0, 8, 4)]
        assert hicache.wait_until_written(trial).to_storage == 4


def test_a_server_that_never_stops_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr(hicache, "counters", lambda _trial: CacheCounters(0, 9999, next(numbers)))
    with on_trial(Double(), tmp_path) as trial, pytest.raises(CheckFailed, match="is still writing"):
        hicache.wait_until_written(trial)
