"""A Docker engine for tests: it keeps what it is told, and refuses what it is asked to refuse."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from docker.errors import APIError, ImageNotFound, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Container:
    """A container; `execute` answers commands in it."""

    engine: FakeDocker
    arguments: dict[str, Any]
    status: str = "created"

    @property
    def name(self) -> str:
        return str(self.arguments.get("name", f"unnamed-{id(self)}"))

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.arguments.get("labels", {}))

    @property
    def attrs(self) -> dict[str, Any]:
        configured = self.arguments.get("networking_config", {})
        return {"NetworkSettings": {"Networks": {name: {"IPAMConfig": each} for name, each in configured.items()}}}

    def start(self) -> None:
        if reason := self.engine.refuses(self.arguments):
            raise APIError("refused", explanation=reason)
        self.status = "running"

    def restart(self) -> None:
        self.status = "running"

    def kill(self) -> None:
        self.status = "exited"

    def reload(self) -> None:
        pass

    def put_archive(self, path: str, data: bytes) -> None:
        self.engine.archives[self.name] = data
        assert path == "/"

    def exec_run(self, command: list[str]) -> tuple[int, bytes]:
        self.engine.commands.append((self.name, " ".join(command)))
        return self.engine.execute(command)

    def remove(self, **_options: Any) -> None:
        self.engine.made.remove(self)


@dataclass
class Named:
    """A network or a volume."""

    engine: FakeDocker
    name: str
    labels: dict[str, str]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def attrs(self) -> dict[str, Any]:
        return {"Labels": self.labels}

    def remove(self) -> None:
        (self.engine.nets if self in self.engine.nets else self.engine.vols).remove(self)


def _nothing(_arguments: dict[str, Any]) -> str | None:
    return None


@dataclass
class FakeDocker:
    """The engine.

    Attributes:
        tags: id by name of the images that are there.
        refuses: asked when a container is started; a reason, or None.
        execute: answers commands in containers.
        build_events: what a build tells.
        push_events: what a push tells.
        pull_events: what a pull tells.
    """

    tags: dict[str, str] = field(default_factory=dict)
    refuses: Callable[[dict[str, Any]], str | None] = _nothing
    execute: Callable[[list[str]], tuple[int, bytes]] = lambda _command: (0, b"running\n")
    build_events: list[dict[str, str]] = field(default_factory=list)
    push_events: list[dict[str, str]] = field(default_factory=list)
    pull_events: list[dict[str, str]] = field(default_factory=list)
    made: list[Container] = field(default_factory=list)
    nets: list[Named] = field(default_factory=list)
    vols: list[Named] = field(default_factory=list)
    built: list[dict[str, Any]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    archives: dict[str, bytes] = field(default_factory=dict)
    commands: list[tuple[str, str]] = field(default_factory=list)

    @property
    def images(self) -> Any:
        return SimpleNamespace(get=self._image, list=self._images, remove=self.removed.append)

    @property
    def containers(self) -> Any:
        return SimpleNamespace(create=self._create, get=self._container, list=lambda **_options: list(self.made))

    @property
    def networks(self) -> Any:
        return SimpleNamespace(get=self._network, create=self._add_network, list=lambda **_options: list(self.nets))

    @property
    def volumes(self) -> Any:
        return SimpleNamespace(get=self._volume, create=self._add_volume, list=lambda **_options: list(self.vols))

    @property
    def api(self) -> Any:
        return SimpleNamespace(
            build=self._build,
            push=lambda *_arguments, **_options: iter(self.push_events),
            pull=lambda *_arguments, **_options: iter(self.pull_events),
            import_image=self._import,
            create_endpoint_config=lambda ipv4_address: {"IPv4Address": ipv4_address},
        )

    def info(self) -> dict[str, str]:
        return {"ID": "fake", "ServerVersion": "1"}

    def close(self) -> None:
        pass

    def _image(self, reference: str) -> Any:
        if reference in self.tags:
            return SimpleNamespace(id=self.tags[reference], tag=lambda name, tag: self._tag(name, tag, reference))
        if reference in self.tags.values():
            return SimpleNamespace(id=reference, tag=lambda name, tag: self._tag(name, tag, reference))
        raise ImageNotFound(reference)

    def _tag(self, name: str, tag: str, reference: str) -> None:
        self.tags[f"{name}:{tag}"] = self.tags.get(reference, reference)

    def _images(self, name: str | None = None, **_options: Any) -> list[Any]:
        return [SimpleNamespace(tags=[tag]) for tag in self.tags if name is None or tag.startswith(f"{name}:")]

    def _import(self, _archive: str, *, repository: str, tag: str, changes: list[str]) -> None:
        assert changes
        self.tags[f"{repository}:{tag}"] = "imported"

    def _build(self, **options: Any) -> Any:
        self.built.append(options)
        if not any("error" in event for event in self.build_events):
            self.tags[options["tag"]] = f"id-of-{options['tag']}"
        return iter(self.build_events)

    def _create(self, image: str = "", **arguments: Any) -> Container:
        container = Container(self, {"image": image, **arguments})
        self.made.append(container)
        return container

    def _container(self, name: str) -> Container:
        for container in self.made:
            if container.name == name:
                return container
        raise NotFound(name)

    def _network(self, name: str) -> Named:
        for network in self.nets:
            if network.name == name:
                return network
        raise NotFound(name)

    def _add_network(self, name: str, **options: Any) -> None:
        self.nets.append(Named(self, name, options["labels"], options))

    def _volume(self, name: str) -> Named:
        for volume in self.vols:
            if volume.name == name:
                return volume
        raise NotFound(name)

    def _add_volume(self, name: str, labels: dict[str, str]) -> None:
        self.vols.append(Named(self, name, labels))
