"""The verb `bench`: what it plans, how it starts aiperf, and what it reads of files that aiperf 0.13.0 left."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyharness.interrupt import Interrupt, Interrupted
from pyharness.loadtest import generator, measured, plan

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

# Recorded. `whole`: 4 requests to Dynamo 1.6.1 with its simulated engine, after a warm-up of 2. To servers made up for
# it `mixed`, 6 of which every second was told 500, and `none`, 20 that all were.
RECORDED = Path(__file__).parent / "data" / "aiperf"
POINT = plan.Point(2, 64, 16)
TURN = plan.Turn(1, POINT, 7)
TARGET = generator.Target("http://127.0.0.11:8000", "Qwen/Qwen3-8B", "/models/stand-in")
WELL = generator.Ended(0, 9.04, "")
LOADS = (1.234, 2.0)


def read(name: str, wanted: int | None, ended: generator.Ended = WELL) -> measured.Measure:
    return measured.read(TURN, ended, RECORDED / name, wanted, LOADS)


# ---------------------------------------------------------------- the plan


def test_a_sweep_is_every_combination_run_by_run_and_no_seed_twice() -> None:
    points = plan.points([1, 4], [64, 256], [16])
    assert [str(point) for point in points[:2]] == [
        "concurrency 1, 64 tokens in, 16 out",
        "concurrency 4, 64 tokens in, 16 out",
    ]
    assert len(points) == 4
    turns = plan.turns(points, 3, 40)
    assert [turn.run for turn in turns] == [1] * 4 + [2] * 4 + [3] * 4
    assert [turn.seed for turn in turns] == list(range(40, 52)), "the same on every day, and none twice"
    assert [turn.point for turn in turns[4:8]] == points


def test_how_many_requests_a_point_gets() -> None:
    assert plan.Load().requests_of(plan.Point(1, 1, 1)) == 20
    assert plan.Load().requests_of(plan.Point(16, 1, 1)) == 64
    assert plan.Load(requests=7).requests_of(plan.Point(1, 1, 1)) == 7
    assert plan.Load(seconds=5).requests_of(plan.Point(1, 1, 1)) is None


def test_aiperf_is_told_the_whole_load_and_never_sends_a_prompt_twice(tmp_path: Path) -> None:
    words = generator.arguments(TURN, plan.Load(requests=10), TARGET, tmp_path)
    told = dict(itertools.pairwise(words))
    assert words[0] == "profile"
    assert "--streaming" in words
    assert (told["--concurrency"], told["--request-count"], told["--random-seed"]) == ("2", "10", "7")
    assert (told["--synthetic-input-tokens-mean"], told["--output-tokens-mean"]) == ("64", "16")
    assert (told["--model"], told["--tokenizer"], told["--url"]) == (TARGET.model, TARGET.tokenizer, TARGET.url)
    assert int(told["--num-dataset-entries"]) == 10 + int(told["--warmup-request-count"])
    by_time = generator.arguments(TURN, plan.Load(seconds=5.0), TARGET, tmp_path)
    assert "--request-count" not in by_time
    assert by_time[by_time.index("--benchmark-duration") + 1] == "5.0"


def test_a_folder_of_a_tokenizer_is_read_without_the_variables_that_aiperf_refuses_it_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    by_folder = generator.environment(tmp_path, replace(TARGET, tokenizer=str(tmp_path)))
    assert "HF_HUB_OFFLINE" not in by_folder
    assert "PYTHONPATH" not in by_folder
    assert by_folder["TMPDIR"] == str(tmp_path)
    assert generator.environment(tmp_path, replace(TARGET, tokenizer="Qwen/Qwen3-8B"))["HF_HUB_OFFLINE"] == "1"


def test_a_turn_may_take_as_long_as_its_requests_may() -> None:
    few = generator.allowed_seconds(TURN, plan.Load(requests=4))
    assert generator.allowed_seconds(TURN, plan.Load(requests=40)) - few == 18 * generator.REQUEST_SECONDS
    assert generator.allowed_seconds(TURN, plan.Load(seconds=500)) > 500


# ---------------------------------------------------------------- the load generator as a program


def program(tmp_path: Path, text: str) -> generator.Generator:
    path = tmp_path / "aiperf"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return generator.Generator(path, "0")


def test_how_it_ended_and_what_it_said_last_is_known(tmp_path: Path) -> None:
    tool = program(tmp_path, "echo all is lost >&2; exit 3")
    ended = tool.run(TURN, plan.Load(), TARGET, tmp_path / "raw", lambda: None)
    assert (ended.code, ended.last) == (3, "all is lost")
    assert (tmp_path / "raw" / "console.log").read_text() == "all is lost\n"


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "allowed_seconds", lambda *_: 0.3)
    left = tmp_path / "left"
    # Whoever holds the lock lives: the shell's child outlives the shell unless the whole group is ended.
    tool = program(tmp_path, f"(trap '' TERM; flock {left} sleep 600) & wait")
    ended = tool.run(TURN, plan.Load(), TARGET, tmp_path / "raw", lambda: None)
    # A process that is killed is not gone at once.
    assert subprocess.run(["flock", "-w", "5", left, "true"], check=False).returncode == 0
    assert ended.code is None
    assert "was ended after" in str(measured.read(TURN, ended, tmp_path / "raw", 20, LOADS).problem)


def test_a_signal_ends_the_load(tmp_path: Path) -> None:
    tool = program(tmp_path, "exec sleep 600")
    interrupt = Interrupt()
    interrupt.stop("enough")
    with pytest.raises(Interrupted, match="enough"):
        tool.run(TURN, plan.Load(), TARGET, tmp_path / "raw", interrupt.check)


# ---------------------------------------------------------------- what aiperf recorded


def test_the_figures_of_a_turn_are_aiperfs() -> None:
    one = read("whole", 4)
    assert (one.requests, one.succeeded, one.errors, one.problem) == (4, 4, {}, None), "the warm-up does not count"
    assert one.figures["requests_per_second"] == pytest.approx(8.391, abs=0.001)
    assert one.figures["output_tokens_per_second"] == pytest.approx(134.252, abs=0.001)
    assert one.figures["time_to_first_token_ms"]["p50"] == pytest.approx(48.215, abs=0.001)
    assert one.figures["inter_token_latency_ms"]["mean"] == pytest.approx(12.021, abs=0.001)
    assert one.figures["output_tokens"] == 16
    assert one.figures["input_tokens"] == 64
    assert (one.load, one.load_after, one.tool_seconds, one.seed) == (1.23, 2.0, 9.0, 7)


def test_errors_are_counted_beside_what_succeeded() -> None:
    one = read("mixed", 6)
    assert (one.requests, one.succeeded, one.failed, one.problem) == (6, 3, 3, None)
    ((text, count),) = one.errors.items()
    assert (count, text[:25]) == (3, "500 Internal Server Error")
    assert one.figures["output_tokens"] == 16


def test_what_was_never_sent_is_an_error_too() -> None:
    assert read("whole", 10).errors == {"not sent, or not answered before aiperf ended": 6}


def test_a_point_with_nothing_but_errors_is_not_measured() -> None:
    said = (RECORDED / "none" / "console.log").read_text()
    one = read("none", 20, generator.Ended(1, 5.7, generator.last_words(said)))
    assert (one.requests, one.succeeded, one.failed, one.figures) == (20, 0, 20, {})
    assert one.problem == 'no request succeeded: 20 x 500 Internal Server Error {"error":{"message":"no"}}'
    assert generator.last_words(said).startswith("All 20 inference request(s) failed.")


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda folder: (folder / measured.FIGURES).unlink(), "left no figures"),
        (lambda folder: (folder / measured.FIGURES).write_text("{"), "cannot be read"),
        (lambda folder: (folder / measured.FIGURES).write_text("[]"), "left no figures"),
        (lambda folder: (folder / measured.RECORDS).write_text("7\n"), "cannot be read"),
        (lambda folder: (folder / measured.RECORDS).unlink(), "no request succeeded"),
    ],
)
def test_what_cannot_be_read_is_not_measured(break_it: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    shutil.copytree(RECORDED / "whole", folder)
    break_it(folder)
    one = measured.read(TURN, WELL, folder, 4, LOADS)
    assert told in str(one.problem)
    assert one.figures == {}


def test_figures_of_a_program_that_failed_are_not_believed() -> None:
    assert read("whole", 4, generator.Ended(1, 9.0, "out of memory")).problem == "aiperf ended with 1: out of memory"
