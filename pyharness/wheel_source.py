"""What `--wheel` names: a file, a version, a URL with its digest, an artifact of GitHub Actions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pyharness.errors import UsageError
from pyharness.from_collection import wheel_spec


@dataclass(frozen=True)
class WheelSource:
    """A wheel as the caller named it.

    Attributes:
        source: `file`, `index`, `url` or `artifact`, as in the report.
        variable: what the playbooks get as disagg_wheel. Of a URL it has the query, which may be a secret.
        told: what messages and results may show.
        sha256: the digest that a URL names; else empty.
    """

    source: str
    variable: str
    told: str
    sha256: str

    def is_deployed(self, *, sha256: str, version: str, origin: str) -> bool:
        """Tell whether the wheel that was deployed is this one.

        Args:
            sha256: its digest.
            version: the version in its metadata.
            origin: where it came from, as the action wheel_file says.

        Raises:
            OSError: the file cannot be read any more.
        """
        if self.source == "file":
            return hashlib.sha256(Path(self.variable).read_bytes()).hexdigest() == sha256
        if self.source == "url":
            return self.sha256 == sha256
        if self.source == "artifact":
            return origin.startswith(f"artifact {self.told.partition(':')[2]} of ")
        return self.variable == version


def parse(text: str) -> WheelSource:
    """Read `--wheel`.

    Raises:
        UsageError: it names no wheel. (Whether there is such a file, version or artifact is not looked for.)
    """
    try:
        spec = wheel_spec.parse(text)
    except ValueError as error:
        raise UsageError(f"--wheel {wheel_spec.told(text)}: {error}") from error
    variable = str(Path(spec.value).resolve()) if spec.source == "file" else text
    return WheelSource(spec.source, variable, spec.told, spec.sha256)


def told(text: str) -> str:
    """Return `--wheel` as messages and results may show it, also where it names no wheel."""
    return wheel_spec.told(text)
