"""Draw a cat: the picture that test cases with a vision model ask about.

It is drawn here and nowhere else, so it is free to ship, and it holds what makes a cat for people and models alike:
pointed ears, whiskers, slit pupils, a striped coat and a long tail. The standard library alone draws it.

Example: ``python -m pyharness.pictures.cat playbooks/pictures/cat.png``
"""

from __future__ import annotations

import itertools
import math
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

# Twelve times 28: Qwen2.5-VL makes one token of 28 x 28 pixels and scales nothing that is a multiple of it.
SIZE = 336
# Points across one pixel, in both directions; their mean is the pixel.
FINE = 3

Colour = tuple[int, int, int]
Point = tuple[float, float]

SKY, GRASS, GRASS_EDGE = (198, 226, 240), (142, 186, 110), (122, 168, 94)
COAT, STRIPE, BELLY = (226, 142, 58), (176, 96, 34), (250, 226, 190)
OUTLINE, PINK, EYE, BLACK, WHITE = (92, 52, 24), (236, 150, 150), (158, 200, 72), (24, 20, 20), (255, 255, 255)


@dataclass(frozen=True)
class Canvas:
    """A square of points, row by row, in a unit that is one pixel of the finished picture."""

    rows: list[list[Colour]]

    def span(self, row: int, left: float, right: float, colour: Colour) -> None:
        """Paint the points of one row whose middles lie between two places, given in points."""
        first, last = max(0, math.ceil(left - 0.5)), min(SIZE * FINE, math.floor(right - 0.5) + 1)
        if first < last:
            self.rows[row][first:last] = [colour] * (last - first)

    def ellipse(self, centre: Point, radii: Point, colour: Colour) -> None:
        """Paint an ellipse."""
        (x, y), (across, down) = centre, radii
        for row in _rows(y - down, y + down):
            height = ((row + 0.5) / FINE - y) / down
            if abs(height) < 1:
                half = across * math.sqrt(1 - height * height)
                self.span(row, (x - half) * FINE, (x + half) * FINE, colour)

    def polygon(self, corners: list[Point], colour: Colour) -> None:
        """Paint a polygon without holes."""
        for row in _rows(min(y for _, y in corners), max(y for _, y in corners)):
            height = (row + 0.5) / FINE
            cuts = sorted(
                x1 + (height - y1) * (x2 - x1) / (y2 - y1)
                for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True)
                if (y1 <= height) != (y2 <= height)
            )
            for left, right in zip(cuts[::2], cuts[1::2], strict=True):
                self.span(row, left * FINE, right * FINE, colour)

    def line(self, points: list[Point], width: float, colour: Colour) -> None:
        """Paint a line with round ends through points."""
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            steps = max(1, math.ceil(math.hypot(x2 - x1, y2 - y1) * FINE / 2))
            for step in range(steps + 1):
                share = step / steps
                self.ellipse((x1 + share * (x2 - x1), y1 + share * (y2 - y1)), (width / 2, width / 2), colour)

    def png(self) -> bytes:
        """Return the picture in the PNG format (ISO/IEC 15948): 8 bits of red, green and blue, no filter."""
        lines = bytearray()
        for top in range(0, SIZE * FINE, FINE):
            lines.append(0)
            block = self.rows[top : top + FINE]
            for left in range(0, SIZE * FINE, FINE):
                points = [point for row in block for point in row[left : left + FINE]]
                lines += bytes(sum(point[channel] for point in points) // len(points) for channel in range(3))
        header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
        body = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(lines), 9)) + _chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + body


def _rows(top: float, bottom: float) -> range:
    return range(max(0, math.floor(top * FINE)), min(SIZE * FINE, math.ceil(bottom * FINE)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _mirrored(points: list[Point], axis: float) -> list[Point]:
    return [(2 * axis - x, y) for x, y in points]


def draw() -> bytes:
    """Return the picture of a sitting cat, as a PNG file's content."""
    canvas = Canvas([[SKY] * (SIZE * FINE) for _ in range(SIZE * FINE)])
    canvas.ellipse((168, 380), (300, 130), GRASS_EDGE)
    canvas.ellipse((168, 386), (300, 130), GRASS)
    _body(canvas)
    _head(canvas)
    return canvas.png()


def _body(canvas: Canvas) -> None:
    bend = [(228 + 62 * math.sin(t * math.pi), 296 - 150 * t + 22 * math.sin(2 * math.pi * t)) for t in _shares(24)]
    canvas.line(bend, 26, OUTLINE)
    canvas.line(bend, 20, COAT)
    for place in (6, 10, 14, 18, 22):
        canvas.line([bend[place], bend[place + 1]], 20, STRIPE)
    canvas.ellipse((168, 250), (75, 79), OUTLINE)
    canvas.ellipse((168, 250), (72, 76), COAT)
    for side in (-1, 1):
        for down in range(3):
            start = (168 + side * 70, 226 + 24 * down)
            canvas.line([start, (168 + side * 46, 232 + 24 * down)], 7, STRIPE)
    canvas.ellipse((168, 258), (38, 56), BELLY)
    for x in (140, 196):
        canvas.ellipse((x, 312), (27, 17), OUTLINE)
        canvas.ellipse((x, 312), (24, 14), COAT)
        for toe in (-8, 0, 8):
            canvas.line([(x + toe, 314), (x + toe, 322)], 2, OUTLINE)


def _head(canvas: Canvas) -> None:
    ear: list[Point] = [(84, 34), (92, 116), (146, 74)]
    inner: list[Point] = [(94, 54), (99, 100), (128, 80)]
    for mirror in (False, True):
        canvas.polygon(_mirrored(ear, 168) if mirror else ear, COAT)
        corners = _mirrored(ear, 168) if mirror else ear
        canvas.line([*corners, corners[0]], 4, OUTLINE)
        canvas.polygon(_mirrored(inner, 168) if mirror else inner, PINK)
    canvas.ellipse((168, 130), (87, 73), OUTLINE)
    canvas.ellipse((168, 130), (84, 70), COAT)
    for x in (-16, 0, 16):
        canvas.line([(168 + x, 66 + abs(x) / 4), (168 + x * 0.8, 90)], 7, STRIPE)
    for side in (-1, 1):
        for down in (0, 16):
            canvas.line([(168 + side * 80, 128 + down), (168 + side * 60, 130 + down)], 6, STRIPE)
        canvas.ellipse((168 + side * 18, 162), (24, 19), BELLY)
        eye = (168 + side * 36, 122)
        canvas.ellipse(eye, (19, 18), OUTLINE)
        canvas.ellipse(eye, (17, 16), EYE)
        canvas.ellipse(eye, (5, 14), BLACK)
        canvas.ellipse((eye[0] - 4, eye[1] - 6), (3, 3), WHITE)
    canvas.ellipse((168, 180), (14, 10), BELLY)
    canvas.polygon([(157, 147), (179, 147), (168, 159)], PINK)
    canvas.line([(157, 147), (179, 147), (168, 159), (157, 147)], 2, OUTLINE)
    canvas.line([(168, 159), (168, 168)], 2.5, OUTLINE)
    for side in (-1, 1):
        canvas.line([(168 + side * 22 * t, 168 + 7 * math.sin(t * math.pi)) for t in _shares(10)], 2.5, OUTLINE)
        for slope in (-10, 2, 14):
            canvas.line([(168 + side * 34, 160 + slope / 3), (168 + side * 112, 156 + slope * 1.6)], 2, WHITE)
            canvas.line([(168 + side * 34, 161 + slope / 3), (168 + side * 112, 157 + slope * 1.6)], 1.2, OUTLINE)


def _shares(steps: int) -> list[float]:
    return [step / steps for step in range(steps + 1)]


def main(arguments: list[str]) -> int:
    """Write the picture to the file that the command line names. Returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m pyharness.pictures.cat FILE\n")
        return 2
    Path(arguments[0]).write_bytes(draw())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
