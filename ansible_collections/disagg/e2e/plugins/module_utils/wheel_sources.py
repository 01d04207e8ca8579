"""Have a wheel as a file on the controller, from wherever it was said to be. What was fetched is kept."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Callable, Mapping

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from ansible_collections.disagg.e2e.plugins.module_utils import cache, wheel_spec

# What asks the network (and loads `requests`, a fifth of a second) is imported where it is asked: most wheels are here.
if TYPE_CHECKING:
    from ansible_collections.disagg.e2e.plugins.module_utils import github_artifacts

_DOWNLOAD_SECONDS = 600


@dataclass(frozen=True)
class Wanted:
    """What a wheel has to fit, where a package index or an artifact has several.

    Attributes:
        package: name of the distribution.
        python_tag: such as cp311; empty: any.
        machine: such as x86_64; empty: any.
    """

    package: str
    python_tag: str = ""
    machine: str = ""


@dataclass(frozen=True)
class Found:
    """A wheel that is there.

    Attributes:
        path: the file.
        source: `file`, `index`, `url` or `artifact`.
        origin: where it came from, for a person.
        changed: whether it was fetched now.
    """

    path: Path
    source: str
    origin: str
    changed: bool


def find(text: str, wanted: Wanted, cache_dir: Path, repository: str, environment: Mapping[str, str]) -> Found:
    """Have the wheel of that name.

    Args:
        text: its name; see `wheel_spec`.
        wanted: what it has to fit.
        cache_dir: directory that keeps what is fetched.
        repository: owner/name on GitHub, of an artifact; empty: GIT_REPO of the environment.
        environment: environment variables.

    Raises:
        ValueError: it is not to be had; one line that says what to do.
        OSError: a file cannot be read or written.
        TimeoutError: another process has been fetching it for ten minutes.
    """
    try:
        spec = wheel_spec.parse(text)
    except ValueError as error:
        raise ValueError(f"wheel {wheel_spec.told(text)}: {error}") from None
    if spec.source == "file":
        return Found(Path(spec.value), "file", spec.value, changed=False)
    if spec.source == "index":
        return _from_index(spec.value, wanted, cache_dir)
    if spec.source == "url":
        return _from_url(spec, cache_dir)
    name = repository or environment.get("GIT_REPO", "")
    if not name:
        raise ValueError(f"artifact {spec.value}: of which repository? Set GIT_REPO to owner/name")
    from ansible_collections.disagg.e2e.plugins.module_utils import github_artifacts  # noqa: PLC0415 (see above)

    try:
        return _from_artifact(int(spec.value), github_artifacts.Repository(name, environment), wanted, cache_dir)
    except github_artifacts.ArtifactError as error:
        raise ValueError(str(error)) from None


def _kept(directory: Path, make: Callable[[Path], None], whole: Callable[[], bool]) -> bool:
    """Have a directory of the cache. Returns whether it was made now."""
    if whole():
        return False
    with cache.locked(directory, _DOWNLOAD_SECONDS):
        if whole():
            return False
        with cache.workspace(directory) as building:
            make(building)
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _for_python(tag: str) -> list[str]:
    """Return pip's options for another Python than the controller's; none where no tag says so.

    Raises:
        ValueError: the tag is not one of CPython.
    """
    if not tag:
        return []
    known = re.fullmatch(r"cp(\d)(\d+)", tag)
    if known is None:
        raise ValueError(f"python_tag {tag}: this is not a tag of CPython such as cp312")
    return ["--implementation", "cp", "--python-version", f"{known[1]}.{known[2]}"]


def _from_index(version: str, wanted: Wanted, cache_dir: Path) -> Found:
    package = wanted.package
    options = _for_python(wanted.python_tag)
    directory = cache_dir / "-".join(part for part in (package, version, wanted.python_tag) if part)

    def make(building: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary", ":all:", *options, "--dest", str(building)]
        command.append(f"{package}=={version}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"fetching {package}=={version} took over {_DOWNLOAD_SECONDS} s") from None
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise ValueError(f"no {package}=={version} to be had: {errors[0][:600] if errors else done.stderr[-600:]}")
        cache.write_record(building, {"package": package, "version": version})

    def whole() -> bool:
        return cache.read_record(directory) is not None and any(directory.glob("*.whl"))

    changed = _kept(directory, make, whole)
    return Found(next(directory.glob("*.whl")), "index", f"{package}=={version} of the package index", changed)


def _from_url(spec: wheel_spec.WheelSpec, cache_dir: Path) -> Found:
    from ansible_collections.disagg.e2e.plugins.module_utils import patient_http  # noqa: PLC0415 (see above)

    directory = cache_dir / f"url-{spec.sha256}"
    path = directory / spec.file_name

    def make(building: Path) -> None:
        target = building / spec.file_name
        try:
            digest = patient_http.ask(spec.value, lambda answer: patient_http.save(answer, target))
        except (patient_http.Refused, patient_http.GaveUp) as error:
            raise ValueError(f"wheel {spec.told}: {error}; see whether the address is right") from None
        if digest != spec.sha256:
            raise ValueError(
                f"wheel {spec.told}: its sha256 is {digest}, and {spec.sha256} was asked for; it is another file: "
                "correct the digest or the address"
            )
        cache.write_record(building, {"url": spec.told, "sha256": digest})

    def whole() -> bool:
        return cache.read_record(directory) is not None and path.exists() and _digest(path) == spec.sha256

    return Found(path, "url", spec.told, _kept(directory, make, whole))


def _from_artifact(number: int, repository: github_artifacts.Repository, wanted: Wanted, cache_dir: Path) -> Found:
    what = f"artifact {number} of {repository.name}"
    # An artifact never changes: its id names its content for good, and the record holds the digests.
    directory = cache_dir / f"artifact-{number}-{cache.key_of(repository.api, repository.name.lower())}"

    def make(building: Path) -> None:
        archive = building / "artifact.zip"
        digest = repository.download(number, archive)
        wheels = _unpack(archive, building, what)
        archive.unlink()
        record = {"repository": repository.name, "artifact": number, "sha256": digest, "wheels": wheels}
        cache.write_record(building, record)

    def whole() -> bool:
        wheels = (cache.read_record(directory) or {}).get("wheels", {})
        return bool(wheels) and all(
            (directory / name).exists() and _digest(directory / name) == digest for name, digest in wheels.items()
        )

    changed = _kept(directory, make, whole)
    names = sorted((cache.read_record(directory) or {})["wheels"])
    return Found(directory / choose(names, wanted, what), "artifact", what, changed)


def _unpack(archive: Path, folder: Path, what: str) -> dict[str, str]:
    """Unpack the wheels of a zip file, side by side. Returns their digests by name."""
    wheels: dict[str, str] = {}
    try:
        with zipfile.ZipFile(archive) as content:
            entries = [entry for entry in content.infolist() if not entry.is_dir()]
            outside = [entry.filename for entry in entries if _leads_outside(entry.filename)]
            if outside:
                raise ValueError(f"{what}: it holds {outside[0]!r}, which leads outside; this is no artifact to trust")
            found = [entry for entry in entries if entry.filename.endswith(".whl")]
            free = shutil.disk_usage(folder).free
            if sum(entry.file_size for entry in found) > free:
                raise ValueError(
                    f"{what}: its wheels need more than the {free >> 20} MiB that are free for {folder.parent}"
                )
            for entry in found:
                name = PurePosixPath(entry.filename).name
                if name in wheels:
                    raise ValueError(f"{what}: it holds two files called {name}; give one of them with --wheel FILE")
                with content.open(entry) as source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target)
                wheels[name] = _digest(folder / name)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{what}: what came is no whole zip file ({error}); run again") from None
    if not wheels:
        there = ", ".join(entry.filename for entry in entries[:5]) or "nothing"
        raise ValueError(f"{what}: there is no wheel in it (but {there}); take another artifact of that workflow run")
    return wheels


def _leads_outside(name: str) -> bool:
    return name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts


def choose(names: list[str], wanted: Wanted, what: str) -> str:
    """Return the one wheel that fits. A single one is taken as it is: it was asked for.

    Args:
        names: file names of wheels.
        wanted: what it has to fit.
        what: where they are, for messages.

    Raises:
        ValueError: none of several fits, or more than one.
    """
    if len(names) == 1:
        return names[0]
    fitting = [name for name in names if _fits(name, wanted)]
    if len(fitting) == 1:
        return fitting[0]
    needs = ", ".join(part for part in (wanted.package, wanted.python_tag, wanted.machine) if part)
    raise ValueError(
        f"{what}: {len(fitting) or 'none'} of its {len(names)} wheels fit {needs} ({', '.join(fitting or names)}); "
        "take another artifact, or download it and give the right one with --wheel FILE"
    )


def _fits(name: str, wanted: Wanted) -> bool:
    """Compare a wheel's name with what is wanted (format: PyPA's binary distribution format)."""
    try:
        package, _version, _build, tags = parse_wheel_filename(name)
    except InvalidWheelFilename:
        return False
    return package == canonicalize_name(wanted.package) and any(
        _right_python(tag.interpreter, tag.abi, wanted.python_tag)
        and (not wanted.machine or tag.platform == "any" or tag.platform.endswith(f"_{wanted.machine}"))
        for tag in tags
    )


def _right_python(interpreter: str, abi: str, wanted: str) -> bool:
    if not wanted or interpreter in {wanted, "py3"}:
        return True
    # The stable ABI: made for that Python and all later ones.
    made, runs = (re.fullmatch(r"cp3(\d+)", tag) for tag in (interpreter, wanted))
    return abi == "abi3" and made is not None and runs is not None and int(made[1]) <= int(runs[1])
