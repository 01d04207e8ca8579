"""Every test begins with the same random numbers, and the top of each session says with which."""

from __future__ import annotations

import os
import random
import sys

import hypothesis
import pytest

DEFAULT = 20260101
VARIABLE = "DISAGG_E2E_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what sets the seed."""
    group = parser.getgroup("disagg-e2e-rules", "rules of this project's own tests")
    group.addoption(
        "--seed",
        type=int,
        metavar="N",
        help=f"what random numbers begin with in each test; default: {VARIABLE}, or {DEFAULT}",
    )


def seed_of(config: pytest.Config) -> int:
    """Return what random numbers begin with.

    Raises:
        pytest.UsageError: DISAGG_E2E_SEED is no number.
    """
    given = config.getoption("seed")
    if given is not None:
        return int(given)
    text = os.environ.get(VARIABLE, str(DEFAULT))
    try:
        return int(text)
    except ValueError as error:
        raise pytest.UsageError(f"{VARIABLE}={text}: has to be a whole number") from error


def pytest_configure(config: pytest.Config) -> None:
    """Let Hypothesis draw the same examples each time where CI runs; elsewhere it looks further each time."""
    seed_of(config)
    hypothesis.settings.register_profile("ci", derandomize=True, database=None)
    if os.environ.get("CI"):
        hypothesis.settings.load_profile("ci")


def pytest_report_header(config: pytest.Config) -> str:
    """Say what random numbers and hashes begin with."""
    hashes = os.environ.get("PYTHONHASHSEED", "random")
    drawn = "the same examples each time" if os.environ.get("CI") else "new examples each time"
    return f"seed: {seed_of(config)} (--seed N), PYTHONHASHSEED: {hashes}, hypothesis: {drawn}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin anew: no test sees how many numbers those before it drew."""
    seed = seed_of(item.config)
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
