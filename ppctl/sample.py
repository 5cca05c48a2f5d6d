"""The commented `ppctl.yml` that `ppctl init` writes, made from the schema."""

from __future__ import annotations

import json
from typing import Any

from ppctl import settings as settings_module

HEADER = """\
# Settings of one private package index. Every key is optional; what is commented out shows the default.
# After a change: ppctl up (first `ppctl plan` to see what it would do).
"""
WIDTH = 100


def text(values: dict[str, Any]) -> str:
    """Return the sample with the top-level `values` (plain data) set and everything else commented out."""
    schema = settings_module.json_schema()
    definitions = schema["$defs"]
    lines = [HEADER]
    for key, node in definitions["Settings"]["properties"].items():
        lines += _comment(_describe(node, definitions))
        nested = _definition(node, definitions)
        if "properties" in nested:
            lines.append(f"# {key}:")
            for name, child in nested["properties"].items():
                lines += _comment(_describe(child, definitions), indent="#   # ")
                lines.append(f"#   {name}: {_value(child)}")
        elif key in values:
            lines.append(f"{key}: {json.dumps(values[key])}")
        else:
            lines.append(f"# {key}: {_value(node)}")
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def rows() -> list[tuple[str, str, str, str]]:
    """Return key, accepted values, default and meaning of every setting (for the reference page)."""
    definitions = settings_module.json_schema()["$defs"]
    found = []
    for key, node in definitions["Settings"]["properties"].items():
        nested = _definition(node, definitions)
        children = nested.get("properties")
        if not children:
            found.append((key, accepted(node, definitions), _value(node), node.get("description", "")))
            continue
        for name, child in children.items():
            found.append(
                (f"{key}.{name}", accepted(child, definitions), _value(child), child.get("description", ""))
            )
    return found


def accepted(node: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return in words which values a schema node accepts."""
    found = _definition(node, definitions)
    if "enum" in found:
        return ", ".join(found["enum"])
    if found.get("type") == "array":
        return "list of " + accepted(found["items"], definitions)
    if "minimum" in found:
        return f"{found['minimum']} to {found['maximum']}"
    return {"boolean": "true, false", "object": "keys and values", "string": "text"}.get(
        str(found.get("type")), ""
    )


def _definition(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    for option in [node, *node.get("anyOf", [])]:
        if "$ref" in option:
            found: dict[str, Any] = definitions[option["$ref"].rsplit("/", 1)[1]]
            return found
    return node


def _describe(node: dict[str, Any], definitions: dict[str, Any]) -> str:
    found = _definition(node, definitions)
    description = str(node.get("description") or found.get("description", ""))
    if "enum" in found:
        description += f" One of: {', '.join(found['enum'])}."
    return description


def _value(node: dict[str, Any]) -> str:
    default = node.get("default", {} if node.get("type") == "object" else "")
    if isinstance(default, list):
        return "[" + ", ".join(map(str, default)) + "]"
    return default if isinstance(default, str) and default.isalnum() else json.dumps(default)


def _comment(description: str, indent: str = "# ") -> list[str]:
    import textwrap

    return textwrap.wrap(description, WIDTH, initial_indent=indent, subsequent_indent=indent)
