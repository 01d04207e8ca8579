"""pytest's fixture `deployed_case`: a deployment that is up, for assertions of one's own. See docs/library.md.

Loaded by every pytest of an environment that has this package installed, so nothing but pytest is imported before a
test asks for the fixture.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pyharness.library import Deployed
    from pyharness.options import Options

_FOLDER = pytest.StashKey[Path]()
# Of the marker, by its own name: the rest of what `Options` takes goes there under its own.
_CHOICES = {"model": "models", "variant": "variants"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what says where and with what the fixture deploys."""
    group = parser.getgroup("disagg-e2e", "deployments under test (fixture deployed_case)")
    group.addoption("--disagg-inventory", type=Path, metavar="DIR", help="the nodes; a marker's inventory wins")
    group.addoption("--disagg-results", type=Path, default=Path("run"), metavar="DIR", help="default: run/")
    group.addoption("--disagg-wheel", metavar="FILE|URL|VERSION|artifact:ID", help="the Mooncake wheel to deploy")
    group.addoption("--disagg-wait", type=float, default=0.0, metavar="SECONDS", help="for nodes that others have")


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marker takes."""
    config.addinivalue_line(
        "markers",
        "deployed(test_case, inventory=, model=, variant=, wheel=, extra_vars=): what fixture deployed_case brings up",
    )


class Deployments:
    """What is up in this session: one deployment at a time, kept for the tests that ask for the same one in a row."""

    def __init__(self) -> None:
        self._options: Options | None = None
        self._up: Deployed | None = None
        self._stack = ExitStack()

    def get(self, options: Options) -> Deployed:
        """Return a deployment, brought up unless it is.

        Args:
            options: what to bring up.

        Raises:
            UsageError: what is asked for cannot be done.
            NotDeployed: it did not come up, or the one before could not be taken down.
        """
        if self._up is None or self._options != options or self._up.ended():
            self.close()
            from pyharness.library import deployed  # noqa: PLC0415 (Ansible is loaded only where it is needed)

            self._up, self._options = self._stack.enter_context(deployed(options)), options
        return self._up

    def close(self) -> None:
        """Take down what is up.

        Raises:
            NotDeployed: the nodes are not clean.
        """
        self._up = None
        self._stack.close()


@pytest.fixture(scope="session")
def disagg_deployments() -> Generator[Deployments, None, None]:
    """Return what brings deployments up, one at a time, and takes the last one down with the session."""
    deployments = Deployments()
    yield deployments
    deployments.close()


@pytest.fixture
def deployed_case(request: pytest.FixtureRequest, disagg_deployments: Deployments) -> Deployed:
    """Return the deployment that the test's marker `deployed` names.

    Tests in a row that name the same one share it; so does a module or class that is marked as a whole.
    """
    marker = request.node.get_closest_marker("deployed")
    if marker is None:
        pytest.fail("deployed_case: mark the test with @pytest.mark.deployed(TEST_CASE)", pytrace=False)
    options = _options(marker, request.config.getoption)
    request.node.stash[_FOLDER] = options.results / options.test_case
    from pyharness.errors import UsageError  # noqa: PLC0415 (only where it is needed)
    from pyharness.library import NotDeployed  # noqa: PLC0415

    try:
        return disagg_deployments.get(options)
    except (UsageError, NotDeployed) as error:
        pytest.fail(f"deployed_case: {error}", pytrace=False)


def _options(marker: pytest.Mark, option: Callable[[str], Any]) -> Options:
    """Return what a marker asks for, with the command line's options in the place of what it leaves out."""
    from pyharness.errors import UsageError  # noqa: PLC0415 (only where it is needed)
    from pyharness.options import Options  # noqa: PLC0415

    given = {"inventory": option("--disagg-inventory"), "wheel": option("--disagg-wheel"), **marker.kwargs}
    values = {name: value for name, value in given.items() if value is not None and name not in _CHOICES}
    values |= {there: (given[here],) for here, there in _CHOICES.items() if here in given}
    if "inventory" in values:
        values["inventory"] = Path(values["inventory"])
    values |= {"results": option("--disagg-results"), "wait": option("--disagg-wait")}
    try:
        return Options(*marker.args, **values)
    except (TypeError, UsageError) as error:
        return pytest.fail(f"deployed_case: {marker.name}{marker.args}: {error}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with a test that failed where the results of its deployment are."""
    report = yield
    folder = item.stash.get(_FOLDER, None)
    if folder is not None and report.failed:
        report.sections.append(("disagg-e2e", f"results of the deployment: {folder.resolve()}"))
    return report
