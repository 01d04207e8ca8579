"""The verb `bench` as a person uses it: arguments, a sweep with recorded figures, and what it shows of them."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pyharness import cli, library
from pyharness.errors import UsageError
from pyharness.interrupt import Interrupt
from pyharness.loadtest import cli as bench
from pyharness.loadtest import endpoint, generator, measured, plan, results, sweep
from tests.unit.fake_http import Answer, FakeServer, serving
from tests.unit.test_loadtest import POINT, RECORDED, TARGET, read

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

CASE = "test_dynamo_router"


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["test_dynamo_serv"], "test_dynamo_serve"),
        (["test_mooncake_store"], "serves no model"),
        ([CASE, "--concurrency", "0"], "has to be a number from 1"),
        ([CASE, "--concurrency", "1,,4"], "has to be a number from 1"),
        ([CASE, "--concurrency", "9" * 5000], "has to be a number from 1"),
        ([CASE, "--input-tokens", "many"], "has to be a number from 1"),
        ([CASE, "--runs", "101"], "from 1 to 100"),
        ([CASE, "--seed", "-1"], "from 0 to"),
        ([CASE, "--seconds", "nan"], "number of seconds from 1"),
        ([CASE, "--seconds", "1", "--requests", "99"], "not allowed with"),
        ([CASE, "--requests", "8", "--concurrency", "4,16"], "fewer than concurrency 16"),
        ([CASE, "--model", "other"], "--model other"),
        ([CASE, "-i", "/nowhere"], "no such inventory"),
        ([CASE, "--url", "127.0.0.11:8000"], "has to be http"),
        ([CASE, "--url", "http://[::1"], "--url"),
        ([CASE, "--url", "http://127.0.0.11:8000/v1"], "without a path"),
        ([CASE, "--url", "http://user:geheim@127.0.0.11:8000"], "holds a user or a password"),
        ([], "TEST_CASE"),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "have", lambda _tell: pytest.fail("nothing may be built for it"))
    assert cli.main(["bench", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert told in captured.err
    assert "geheim" not in captured.err


def test_help_tells_the_two_benchmarks_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--help"])
    assert "What the harness itself costs is another matter: make bench." in capsys.readouterr().out


# ---------------------------------------------------------------- what is shown


def faster(measure: measured.Measure, factor: float, **changes: Any) -> measured.Measure:
    figures = {**measure.figures, "requests_per_second": measure.figures["requests_per_second"] * factor}
    return replace(measure, figures=figures, **changes)


def test_a_point_is_the_median_of_its_runs_and_a_ratio_to_the_first() -> None:
    first = read("whole", 4)
    other = {"concurrency": 8, "input_tokens": 64, "output_tokens": 16}
    lost = replace(read("none", 20), point=other)
    one, two = results.summarise(
        [first, faster(first, 3, point=other), faster(first, 9), lost, faster(first, 2), faster(first, 4, point=other)]
    )
    assert (one.runs, two.runs, two.failed, two.requests) == ((3, 3), (2, 3), 20, 28)
    assert one.medians["requests_per_second"] == pytest.approx(8.391 * 2, abs=0.01)
    assert two.ratios["requests_per_second"] == 1.75
    assert one.ratios["time_to_first_token_p50_ms"] == 1.0


def test_a_chart_has_a_bar_per_point_that_was_measured() -> None:
    first = read("whole", 4)
    points = [
        replace(first, point={"concurrency": count, "input_tokens": 64, "output_tokens": 16}) for count in range(1, 13)
    ]
    drawn = results.charts(results.summarise([*points, replace(read("none", 20), point={"a": 99, "b": 1, "c": 1})]))
    assert set(drawn) == {"throughput.svg", "latency.svg"}
    for name, parts in (("throughput.svg", 12), ("latency.svg", 24)):
        root = ET.fromstring(drawn[name])  # noqa: S314 (what was just made)
        found = [element for element in root.iter("{http://www.w3.org/2000/svg}rect") if element.find("*") is not None]
        assert len(found) == parts
        assert all(float(part.attrib["height"]) >= 0 for part in found)
        words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"at once 1", "at once 12", "in 64", "out 16"} <= set(words)
        assert float(root.attrib["viewBox"].split()[2]) > 12 * 80, "there is room for every bar's words"
    assert results.charts(results.summarise([read("none", 20)])) == {}


# ---------------------------------------------------------------- a sweep


class Fake:
    """A load generator that leaves what was recorded."""

    version = "0.13.0"

    def __init__(self, *names: str) -> None:
        self.names, self.turns = list(names), list[plan.Turn]()

    def run(self, turn: plan.Turn, _load: Any, target: Any, folder: Path, _interrupted: Any) -> generator.Ended:
        self.turns.append(turn)
        self.target = target
        name = self.names.pop(0)
        shutil.copytree(RECORDED / name, folder)
        return generator.Ended(1 if name == "none" else 0, 9.0, "all failed")


def run(tool: Fake, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(generator, "have", lambda _tell: tool)
    given = ["bench", CASE, "--url", url, "--results", str(tmp_path / "run"), "--requests", "4"]
    given += ["--concurrency", "1,2", "--input-tokens", "64", "--output-tokens", "16", *words]
    return cli.main(given)


@contextmanager
def listing(model: str) -> Iterator[FakeServer]:
    """Serve the list of models that OpenAI's API has."""
    with serving("127.0.0.44") as server:
        server.answers["/v1/models"] = Answer(body={"object": "list", "data": [{"id": model}]})
        yield server


def test_a_sweep_over_what_is_up_leaves_everything_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = Fake("whole", "whole", "whole", "whole")
    with listing("Qwen/Qwen3-8B") as server:
        assert run(tool, server.url, tmp_path, monkeypatch, "--runs", "2", "--seed", "3") == 0
    folder = tmp_path / "run" / f"bench_{CASE}"
    document = json.loads((folder / "bench.json").read_text())
    assert [turn["seed"] for turn in document["turns"]] == [3, 4, 5, 6]
    assert (document["model"], document["runs"], document["seed"]) == ("Qwen/Qwen3-8B", 2, 3)
    assert document["tool"] == {"name": "aiperf", "version": "0.13.0"}
    assert document["deployed"] is False
    assert document["machine"]["cores"] > 0
    assert [point["ratios"]["requests_per_second"] for point in document["points"]] == [1.0, 1.0]
    assert (folder / document["turns"][0]["raw"] / measured.FIGURES).is_file()
    page = (folder / "bench.html").read_text()
    assert page.count('role="img"') == 2
    assert "not measured" not in page
    assert "<script" not in page
    assert (folder / "throughput.svg").read_text().startswith("<svg")
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].split()[:4] == ["at", "once", "in", "out"]
    assert "point 4 of 4: run 2, concurrency 2" in captured.err


def test_a_point_with_nothing_but_errors_ends_with_2_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listing("Qwen/Qwen3-8B") as server:
        assert run(Fake("mixed", "none"), server.url, tmp_path, monkeypatch, "--json", "-q") == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [point["runs"] for point in document["points"]] == [[1, 1], [0, 1]]
    assert [point["failed"] for point in document["points"]] == [3, 20]
    assert captured.err.startswith(
        f"error: {CASE}: run 1, concurrency 2, 64 tokens in, 16 out: not measured: no request"
    )
    page = (tmp_path / "run" / f"bench_{CASE}" / "bench.html").read_text()
    assert "3 of 6 requests failed" in page
    assert "<strong>not measured</strong>: no request succeeded: 20 x 500" in page


def test_another_model_or_no_answer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listing("other") as server:
        assert run(Fake(), server.url, tmp_path, monkeypatch) == 2
        assert "serves other and not Qwen/Qwen3-8B" in capsys.readouterr().err
    assert run(Fake(), "http://127.0.0.44:9", tmp_path, monkeypatch) == 2
    assert "is it up?" in capsys.readouterr().err


def test_services_that_have_yet_to_find_each_other_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with listing("Qwen/Qwen3-8B") as server:
        listed = server.answers["/v1/models"]
        assert isinstance(listed, Answer)
        server.answers["/v1/models"] = [Answer(body={"data": []}), listed]
        endpoint.until_served(server.url, "Qwen/Qwen3-8B")
        assert len(server.requests) == 2
        monkeypatch.setattr(endpoint, "_SERVED_SECONDS", 0)
        with pytest.raises(UsageError, match="serves Qwen/Qwen3-8B and not other"):
            endpoint.until_served(server.url, "other")


def test_what_a_sweep_before_found_is_put_aside_and_what_is_not_its_own_is_left(tmp_path: Path) -> None:
    asked = sweep.Asked(Path(), (), (), [POINT], plan.Load(), results=tmp_path)
    for number in range(8):
        folder = sweep._folder(asked, CASE)
        assert list(folder.iterdir()) == []
        (folder / "bench.json").write_text(str(number))
    kept = sorted((tmp_path / "previous" / f"bench_{CASE}").iterdir())
    assert [(entry / "bench.json").read_text() for entry in kept] == ["2", "3", "4", "5", "6"]
    (folder / "bench.json").rename(folder / "mine.txt")
    with pytest.raises(UsageError, match="holds what no sweep left there"):
        sweep._folder(asked, CASE)
    assert (folder / "mine.txt").exists()


def test_a_service_that_ends_and_one_that_does_not_come_up_are_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = sweep.Asked(Path(), (), (), [POINT], plan.Load(requests=4), results=tmp_path)
    tool: Any = Fake("whole")

    @contextmanager
    def up(*_arguments: Any) -> Iterator[sweep._Up]:
        yield sweep._Up(TARGET, {"notes": []}, lambda: ["worker-1"])

    monkeypatch.setattr(sweep, "_up", up)
    with pytest.raises(sweep.NotMeasured, match="worker-1 has ended"):
        sweep.measure(CASE, replace(asked, url="http://127.0.0.11:1"), tool, lambda _text: None, Interrupt())

    @contextmanager
    def down(*_arguments: Any) -> Iterator[sweep._Up]:
        failure = SimpleNamespace(check="provision", evidence="no room", hint="make room")
        raise library.NotDeployed(SimpleNamespace(failures=[failure]), tmp_path)  # type: ignore[arg-type]
        yield

    monkeypatch.setattr(sweep, "_up", down)
    with pytest.raises(sweep.NotMeasured, match="provision: no room; make room"):
        sweep.measure(CASE, replace(asked, url="http://127.0.0.11:1"), tool, lambda _text: None, Interrupt())
