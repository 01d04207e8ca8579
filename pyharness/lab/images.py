"""Build images with the Docker engine itself: its classic builder needs no further program."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, ImageNotFound

from pyharness.errors import UsageError
from pyharness.lab import machine
from pyharness.lab.model import LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from docker import DockerClient

# Lines of a failed build that are told: the command's own words come last.
_TAIL = 8


@dataclass(frozen=True)
class Recipe:
    """What an image is made of.

    Attributes:
        name: the image's name without a tag.
        parent: id of the image below it.
        dockerfile: text of the Dockerfile; it takes `parent` as an argument.
        files: the context, by relative path.
        trees: directories of this machine in the context, by relative path. Not part of the key: give what they
            depend on as a file or in `depends_on`.
        executable: those of `files` that are programs.
        depends_on: what else the content depends on.
    """

    name: str
    parent: str
    dockerfile: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    trees: Mapping[str, Path] = field(default_factory=dict)
    executable: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """A hash of all of it."""
        digest = hashlib.sha256()
        for part in (self.parent, self.dockerfile, *self.depends_on, *self.executable):
            digest.update(part.encode() + b"\0")
        for name in sorted(self.files):
            digest.update(name.encode() + b"\0" + self.files[name] + b"\0")
        return digest.hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The image's name with its tag."""
        return f"{self.name}:{self.key}"


def present(client: DockerClient, reference: str) -> str | None:
    """Return the id of an image that the engine has; None if it has it not."""
    try:
        return str(client.images.get(reference).id)
    except ImageNotFound:
        return None


def build(client: DockerClient, recipe: Recipe) -> str:
    """Have an image: the one that is there, if it was made of the same, or else a new one.

    Args:
        client: the Docker engine.
        recipe: what it is made of.

    Returns:
        its id.

    Raises:
        UsageError: a step of the build failed.
    """
    if found := present(client, recipe.tag):
        return found
    stream = client.api.build(
        fileobj=_context(recipe),
        custom_context=True,
        tag=recipe.tag,
        labels={LABEL: "1"},
        buildargs={"parent": recipe.parent} | machine.proxies(),
        extra_hosts=machine.named_hosts(),
        rm=True,
        forcerm=True,
        decode=True,
    )
    told: list[str] = []
    for event in stream:
        told += [line for line in str(event.get("stream", "")).splitlines() if line.strip()]
        if "error" in event:
            raise UsageError(f"image {recipe.name}: the build failed: {' / '.join(told[-_TAIL:])}: {event['error']}")
    remove(client, [tag for image in client.images.list(recipe.name) for tag in image.tags if _outdated(tag, recipe)])
    return str(client.images.get(recipe.tag).id)


def _outdated(tag: str, recipe: Recipe) -> bool:
    """Tell whether a tag names what an earlier recipe made: nobody asks for it again, and it fills the disk."""
    return tag.startswith(f"{recipe.name}:") and tag not in (recipe.tag, f"{recipe.name}:latest")


def _context(recipe: Recipe) -> io.BytesIO:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in {"Dockerfile": recipe.dockerfile.encode(), **recipe.files}.items():
            add_file(tar, name, content, mode=0o755 if name in recipe.executable else 0o644)
        for name, directory in recipe.trees.items():
            tar.add(directory, arcname=name, filter=_of_root)
    target.seek(0)
    return target


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if entry.name.rpartition("/")[2] == "__pycache__":
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def add_file(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644, owner: int = 0) -> None:
    """Add a file to an archive.

    Args:
        tar: the archive.
        name: its path in it.
        content: its content.
        mode: its access rights.
        owner: user and group id.
    """
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.uid, entry.gid = len(content), mode, owner, owner
    tar.addfile(entry, io.BytesIO(content))


def remove(client: DockerClient, references: Iterable[str]) -> None:
    """Remove images that nothing uses; those that are in use, or gone, stay as they are."""
    for reference in references:
        try:
            client.images.remove(reference)
        except APIError as error:
            if error.status_code not in (404, 409):
                raise


def last_error(events: Iterable[dict[str, Any]]) -> str | None:
    """Read a stream of the engine's events to its end and return the error that it tells of; None if of none."""
    error = None
    for event in events:
        error = event.get("error") or error
    return str(error) if error else None
