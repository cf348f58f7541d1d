"""YAML that a user wrote, as `yaml.safe_load` reads it, but a name that a table holds twice is an error and not the last one's.

    strict_yaml.load(text)

JSON is YAML, so this holds for JSON files too. PyYAML is imported here: import this module where it is used.
"""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Looks at tables as they are written: later, `<<` has merged others into them, whose names may come twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The table. Raises yaml.YAMLError."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.YAMLError(f"the name {key.value!r} is there twice, again in line {key.start_mark.line + 1}")
                seen.add((key.tag, key.value))
        return node


def load(text: str) -> Any:
    """What `text` holds. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506  it is a SafeLoader
