"""A sweep over one deployment: brought up by the library, or up already, measured point by point, taken down."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyharness import arguments as common
from pyharness import case as cases
from pyharness import library
from pyharness.errors import UsageError
from pyharness.loadtest import endpoint, generator, measured, plan, results
from pyharness.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyharness.case import TrialName
    from pyharness.interrupt import Interrupt
    from pyharness.loadtest.generator import Generator, Target
    from pyharness.loadtest.measured import Measure

_MARK = "bench.json"
_KEPT = 5  # sweeps before this one
_STAND_IN = (
    "The model is a small stand-in of the same architecture: its times are not those of the model it stands for."
)
_SIMULATED = "The engine is simulated: its times are its own model's, and nothing follows from them for a real one."


class NotMeasured(Exception):  # noqa: N818 (what came of it, as the verdict of a run is)
    """A test case could not be brought up, or its nodes not be left clean."""


@dataclass(frozen=True)
class Asked:
    """What to measure.

    Attributes:
        inventory: its path.
        models: of the declared ones, the first is measured; empty takes all.
        variants: likewise.
        points: of the sweep.
        load: how much at each point.
        runs: how often each point is measured.
        seed: of the first turn's prompts.
        results: the folder of all results.
        url: of what is up already; None brings the test case up.
        tokenizer: a folder or a name; None takes the model's.
        extra_vars: further variables for the playbooks.
    """

    inventory: Path
    models: tuple[str, ...]
    variants: tuple[str, ...]
    points: list[plan.Point]
    load: plan.Load
    runs: int = 1
    seed: int = 0
    results: Path = Path("run")
    url: str | None = None
    tokenizer: str | None = None
    extra_vars: dict[str, Any] = field(default_factory=dict)


@dataclass
class Found:
    """What came of it.

    Attributes:
        test_case: its name.
        folder: of the results.
        document: what bench.json holds.
        measures: every turn, as they were made.
    """

    test_case: str
    folder: Path
    document: dict[str, Any] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)


@dataclass(frozen=True)
class _Up:
    """What is up: where the load goes, what is known of it, and which of its services have ended since."""

    target: Target
    facts: dict[str, Any]
    ended: Callable[[], list[str]]


def check(name: str, asked: Asked) -> TrialName:
    """Find out what can be found out before anything is touched. Returns the trial that is measured.

    Raises:
        UsageError: something cannot be done.
    """
    case = cases.load(name)
    if not case.models:
        raise UsageError(f"{name}: serves no model, so there is nothing to send prompts to; name a test case that does")
    trial = common.trials(case, asked.models, asked.variants)[0]
    if asked.url is None:
        common.check_inventory(asked.inventory)
    else:
        endpoint.check(asked.url)
    return trial


def measure(name: str, asked: Asked, tool: Generator, tell: Callable[[str], None], interrupt: Interrupt) -> Found:
    """Measure one test case.

    Args:
        name: of the test case.
        asked: what to measure.
        tool: makes the load.
        tell: told of every step.
        interrupt: ends it between two looks at the load generator; what is up is taken down.

    Raises:
        UsageError: what is asked for cannot be done.
        NotMeasured: it was not brought up, or could not be taken down.
        Interrupted: a signal came.
        KeyboardInterrupt: a signal came while it was brought up or taken down.
    """
    trial = check(name, asked)
    found = Found(name, _folder(asked, name))
    results.begin(found.folder, name)
    try:
        with _up(name, asked, trial, tell, found.folder) as up:
            subject = {
                "test_case": name,
                "started_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
                "url": up.target.url,
                "model": up.target.model,
                "variant": trial.variant,
                "tokenizer": up.target.tokenizer,
                "tool": {"name": "aiperf", "version": tool.version},
                "runs": asked.runs,
                "seed": asked.seed,
                "requests": asked.load.requests,
                "seconds": asked.load.seconds,
                "turns_planned": len(asked.points) * asked.runs,
                # Until it is proven; and of what is up already nobody looks.
                "nodes_clean": None,
                **up.facts,
            }
            _sweep(found, asked, up, tool, subject, tell, interrupt)
    except library.NotDeployed as error:
        raise NotMeasured(str(error)) from error
    if asked.url is None:
        found.document["nodes_clean"] = True
        results.write(found.folder, found.document, found.measures)
    return found


def _sweep(
    found: Found,
    asked: Asked,
    up: _Up,
    tool: Generator,
    subject: dict[str, Any],
    tell: Callable[[str], None],
    interrupt: Interrupt,
) -> None:
    turns = plan.turns(asked.points, asked.runs, asked.seed)
    for place, turn in enumerate(turns, 1):
        interrupt.check()
        if gone := up.ended():
            raise NotMeasured(f"{', '.join(gone)} has ended; its log is in {found.folder}")
        tell(f"point {place} of {len(turns)}: run {turn.run}, {turn.point}")
        raw = Path("raw") / f"run{turn.run}" / turn.point.slug
        before = os.getloadavg()[0]
        ended = tool.run(turn, asked.load, up.target, found.folder / raw, interrupt.check)
        loads = (before, os.getloadavg()[0])
        one = measured.read(turn, ended, found.folder / raw, asked.load.requests_of(turn.point), loads)
        found.measures.append(replace(one, raw=str(raw)))
        # After each: what stops it leaves what was measured until then.
        found.document = results.document(subject, found.measures)
        results.write(found.folder, found.document, found.measures)


def _folder(asked: Asked, name: str) -> Path:
    """Have an empty folder for the results; what a sweep before left there is moved to previous/.

    Raises:
        UsageError: it cannot be had.
    """
    folder = (asked.results / f"bench_{name}").absolute()
    try:
        if folder.exists() and any(folder.iterdir()):
            if not (folder / _MARK).exists():
                raise UsageError(f"--results: {folder} holds what no sweep left there; name another folder")
            _put_aside(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{error.strerror}: {error.filename}"
        raise UsageError(
            f"--results {asked.results}: cannot be written ({reason}); name a folder of your own"
        ) from error
    return folder


def _put_aside(folder: Path) -> None:
    older = folder.parent / "previous" / folder.name
    older.mkdir(parents=True, exist_ok=True)
    written = datetime.fromtimestamp((folder / _MARK).stat().st_mtime, UTC)
    folder.rename(older / f"{written:%Y%m%d-%H%M%S-%f}")
    for old in sorted(older.iterdir())[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _up(name: str, asked: Asked, trial: TrialName, tell: Callable[[str], None], folder: Path) -> Iterator[_Up]:
    """Have something to measure within this block.

    Raises:
        UsageError: it cannot be had.
        NotDeployed: it did not come up, or could not be taken down.
    """
    if asked.url is not None:
        model = str(trial.model)
        endpoint.serves(asked.url, model)
        target = generator.Target(asked.url.rstrip("/"), model, asked.tokenizer or model)
        yield _Up(target, {"deployed": False, "notes": ["Nothing was deployed: what serves there is not known."]}, list)
        return
    # The report of the deployment, whose verdict is none, does not take the place of a run's.
    options = Options(
        name,
        inventory=asked.inventory,
        results=folder / "deployment",
        models=asked.models,
        variants=asked.variants,
        extra_vars=asked.extra_vars,
        tell=tell,
    )
    with library.deployed(options, trial) as up:
        served = up.deployment.served
        here = served.path if Path(served.path).is_dir() else served.name
        target = generator.Target(up.url, served.name, asked.tokenizer or here)
        if up.deployment.engine.name == "dynamo":
            endpoint.until_served(up.url, served.name)
        yield _Up(target, _facts(up), lambda: [service.name for service in up.ended()])


def _facts(up: library.Deployed) -> dict[str, Any]:
    """Return what is known of a deployment, and what a reader of its times has to know."""
    deployment = up.deployment
    # Dynamo's simulated engine is a program of Dynamo's own; all other of its services are real.
    simulated = deployment.simulated or any("dynamo.mocker" in service.command for service in deployment.services)
    stand_in = deployment.served.stand_in is not None
    return {
        "deployed": True,
        "notes": [*([_SIMULATED] if simulated else []), *([_STAND_IN] if stand_in and not simulated else [])],
        "simulated": simulated,
        "stand_in": deployment.served.stand_in,
        "run_id": deployment.run_id,
        "inventory": up.report.inventory,
        "engine": deployment.engine.model_dump(mode="json", exclude={"environment"}),
        "transport": deployment.transport.model_dump(mode="json"),
        "workload": deployment.workload,
        "services": [f"{service.name} on {service.node}" for service in deployment.services if service.started],
        "versions": up.report.versions,
    }
