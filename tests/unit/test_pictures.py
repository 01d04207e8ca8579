"""The picture of a cat, and how declarations put it into requests."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from pyharness import case as cases
from pyharness import exercise, pictures
from pyharness.errors import UsageError
from pyharness.pictures import cat
from tests.unit.fake_http import Answer, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]

FILE = pictures.FOLDER / "cat.png"
DECLARATION = """
test_case: test_it
title: It
engine: sglang
nodes: [prefill_nodes]
models: [org/model]
gpus: {{tensor_parallel: 1, first: 0}}
transport: tcp
ports: {{server: 1}}
request: {{path: /v1/chat/completions, json: {{messages: [{{content: ["{picture}"]}}]}}, timeout_seconds: 1}}
reference: none
markers: [nightly, e2e, gpu_1]
"""


def pixels(png: bytes) -> bytes:
    """Return the pixels: compressors of other versions may pack them otherwise."""
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + content)
        data += content if kind == b"IDAT" else b""
        at += length + 12
    return zlib.decompress(data)


def test_the_picture_that_is_shipped_is_the_one_that_is_drawn() -> None:
    assert pixels(FILE.read_bytes()) == pixels(cat.draw())


def test_it_has_the_size_that_the_number_of_its_tokens_follows_from() -> None:
    assert struct.unpack_from(">II", FILE.read_bytes(), 16) == (cat.SIZE, cat.SIZE)
    declared = cases.load("test_epd_sglang")
    assert declared.workload["image_tokens"] == (cat.SIZE // 28) ** 2


def test_nothing_is_painted_beyond_the_edge() -> None:
    canvas = cat.Canvas([[cat.SKY] * (cat.SIZE * cat.FINE) for _ in range(cat.SIZE * cat.FINE)])
    canvas.ellipse((0, 0), (2, 2), cat.BLACK)
    canvas.ellipse((cat.SIZE, cat.SIZE), (2, 2), cat.BLACK)
    canvas.ellipse((-50, 20), (10, 10), cat.BLACK)
    assert {len(row) for row in canvas.rows} == {cat.SIZE * cat.FINE}
    assert len(canvas.rows) == cat.SIZE * cat.FINE
    assert canvas.rows[0][0] == canvas.rows[-1][-1] == cat.BLACK
    assert canvas.rows[20 * cat.FINE][0] == cat.SKY


def test_the_program_writes_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cat.main([str(tmp_path / "cat.png")]) == 0
    assert pixels((tmp_path / "cat.png").read_bytes()) == pixels(FILE.read_bytes())
    assert cat.main([]) == 2
    assert "usage" in capsys.readouterr().err


def load(folder: Path, picture: str) -> cases.TestCase:
    (folder / "test_it.yml").write_text(DECLARATION.format(picture=picture), encoding="utf-8")
    return cases.load("test_it", folder)


def test_a_picture_is_sent_in_the_place_of_its_name(tmp_path: Path) -> None:
    body = load(tmp_path, "picture:cat.png").asked.body
    with serving("127.0.0.43") as server:
        server.answers["/v1/chat/completions"] = Answer(200, {})
        exchange = exercise.post(f"{server.url}/v1/chat/completions", body, 10)
    (content,) = json.loads(server.requests[0].body)["messages"][0]["content"]
    kind, _, data = content.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == FILE.read_bytes()
    assert "picture:cat.png" in exchange.transcript(), "which stays short enough to read"


def test_other_texts_stay_as_they_are(tmp_path: Path) -> None:
    assert load(tmp_path, "a picture: none").asked.body == {"messages": [{"content": ["a picture: none"]}]}
    assert pictures.embedded([1, None, {"a": 2.5}]) == [1, None, {"a": 2.5}]


@pytest.mark.parametrize("name", ["dog.png", "../vars/test_epd_sglang.yml", ""])
def test_a_picture_that_is_not_there_is_a_mistake_of_the_declaration(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"request\.json: there is no picture .* \(there is: cat\.png\)"):
        load(tmp_path, f"picture:{name}")
