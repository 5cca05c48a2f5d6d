"""YAML files that people write, read strictly."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ppctl.errors import UsageError


def parse(path: Path, content: bytes) -> Any:
    """Return what the YAML `content` of the file `path` says, as plain data.

    Raises UsageError that names the file, and the line where there is one.
    """
    import yaml

    try:
        return yaml.load(content.decode("utf-8"), Loader=_strict_loader())  # noqa: S506 - a SafeLoader
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: not UTF-8 text (byte {e.start})") from e
    except yaml.YAMLError as e:
        raise UsageError(f"{path}: not valid YAML: {_yaml_problem(e)}") from e
    except ValueError as e:  # a date that is none
        raise UsageError(f"{path}: not valid YAML: {e}", "write it in quotes if it is text") from e
    except RecursionError as e:
        raise UsageError(f"{path}: not valid YAML: nested too deeply") from e


@cache
def _strict_loader() -> Any:
    """Return a SafeLoader that refuses a key given twice: YAML would silently take the last one."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        seen = []
        for key_node, _ in node.value:
            key = loader.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key}` is given twice", key_node.start_mark
                )
            seen.append(key)
        return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=True))

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    return Loader


def _yaml_problem(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else problem
