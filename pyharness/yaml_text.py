"""YAML that a person wrote: read, or refused with one kind of error."""

from __future__ import annotations

from typing import Any

import yaml

# What PyYAML lets through instead of an error of its own, for such as the date 2001-99-99 or "!!map text".
_LEAKS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class UniqueKeys(yaml.SafeLoader):
    """YAML as usual, but for two things that are errors.

    A key that stands twice in a mapping: the second would win in silence. An alias: what is declared stands where it
    belongs, and ten lines of aliases can stand for more than fits in memory.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "an alias; write out what it stands for", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Refuse a key that stands twice, and one that is no text."""
        seen: set[Any] = set()
        for key_node, _value in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is no text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return what a text means.

    Args:
        text: the YAML, one document.
        loader: reads it.

    Raises:
        ValueError: it is none; the text of the error is one line.
    """
    try:
        return yaml.load(text, loader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, *_LEAKS) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
