"""What a sweep consists of: its points, how often and in which order they are measured, with which seeds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

# Of a point whose number of requests is not given: so many times its concurrency, and at least so many that the 90th
# percentile is not the slowest of a handful.
_ROUNDS = 4
_FEWEST = 20


@dataclass(frozen=True)
class Point:
    """One combination of a sweep.

    Attributes:
        concurrency: requests that are under way at any time.
        input_tokens: of each prompt, before the model's chat template is put around it.
        output_tokens: of each answer.
    """

    concurrency: int
    input_tokens: int
    output_tokens: int

    def __str__(self) -> str:
        return f"concurrency {self.concurrency}, {self.input_tokens} tokens in, {self.output_tokens} out"

    @property
    def slug(self) -> str:
        """Its name as a folder."""
        return f"c{self.concurrency}_in{self.input_tokens}_out{self.output_tokens}"


@dataclass(frozen=True)
class Load:
    """How much is sent at each point.

    Attributes:
        requests: how many; None is as many as the concurrency needs.
        seconds: for how long instead; None is until the requests are answered.
    """

    requests: int | None = None
    seconds: float | None = None

    def requests_of(self, point: Point) -> int | None:
        """Return how many requests a point gets; None where time decides."""
        if self.seconds is not None:
            return None
        return self.requests or max(_FEWEST, _ROUNDS * point.concurrency)


@dataclass(frozen=True)
class Turn:
    """A point's turn in a run.

    Attributes:
        run: which of the runs, from 1 on.
        point: what is measured.
        seed: of its prompts. No two turns share one: a prompt that has been sent before may be answered from a cache.
    """

    run: int
    point: Point
    seed: int


def points(concurrency: list[int], input_tokens: list[int], output_tokens: list[int]) -> list[Point]:
    """Return the combinations: concurrency changes first, so that its curve is measured in a row."""
    lengths = product(input_tokens, output_tokens)
    return [Point(count, length, answer) for length, answer in lengths for count in concurrency]


def turns(measured: list[Point], runs: int, seed: int) -> list[Turn]:
    """Return the turns, run by run, so that a machine that is slower for a while is slower for every point.

    Args:
        measured: the points.
        runs: how often each is measured.
        seed: of the first turn; the next ones count on from it.
    """
    order = list(product(range(1, runs + 1), measured))
    return [Turn(run, point, seed + place) for place, (run, point) in enumerate(order)]
