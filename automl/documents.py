"""Reading YAML files strictly, and telling everything that is wrong with one at once.

YAML is read safely and as version 1.2: `1e-4` is a number, `no` is a word, a date is a word, and a key that stands
twice is an error. PyYAML reads 1.1, so the resolvers are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from automl.errors import ConfigError, Problem, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1 << 20
#: Characters of a value that a sentence shows.
SHOWN = 60
MAX_NODES = 20_000  # counted with aliases expanded, so that a small file cannot describe a huge document


#: How the ends of a range read, and under which key pydantic has them.
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}


class _Loader(yaml.SafeLoader):
    """A safe loader with the values of YAML 1.2's core schema and no duplicate keys."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  what the parent declares, emptied
    # Dates, bytes and sets are safe as well, but no study holds them, and JSON cannot.
    yaml_constructors = {  # noqa: RUF012
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, TypeError):  # `!!int abc`, or more digits than Python converts
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"cannot be read as {kind}", node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key}` is not a word", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key}` stands twice, first on line {seen[key]}", key_node.start_mark
                )
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
# PyYAML builds integers with a leading zero as octal and floats with its own parser; the core schema means decimal.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def read_yaml(path: Path) -> Any:
    """Returns the document in a YAML file.

    Raises:
        ConfigError: The file cannot be read, is too large, or is not one YAML document.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        siblings = sorted(sibling.name for sibling in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        raise ConfigError("no such file", where=str(path), remedy=did_you_mean(path.name, siblings)) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"is {len(raw):,} bytes; at most {MAX_BYTES:,} are read", where=str(path))
    try:
        return parse_yaml(raw.decode("utf-8-sig"), where=str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 (byte {error.start})", where=str(path), remedy="Save it as UTF-8.") from None


def parse_yaml(text: str, *, where: str) -> Any:
    """Returns the document that `text` holds; `where` is what errors call it."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError("is empty", where=where)
        _count(node, 0, where)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise ConfigError(str(error.problem or error.context), where=place) from None
    except yaml.YAMLError as error:
        raise ConfigError(str(error).splitlines()[0], where=where) from None
    except RecursionError:
        raise _too_large(where) from None
    finally:
        if loader is not None:
            loader.dispose()


def _count(node: yaml.Node, total: int, where: str, depth: int = 0) -> int:
    """Returns the number of nodes with aliases expanded, and refuses a document that grows too large or too deep."""
    total += 1
    if total > MAX_NODES or depth > 50:
        raise _too_large(where)
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                total = _count(part, total, where, depth + 1)
    return total


def _too_large(where: str) -> ConfigError:
    return ConfigError("describes a document too large or too deep to be a study", where=where)


def within(base: Path, path: str, where: str, *, deep: bool = True) -> Path:
    """Returns the place that a document names, from `base`, the folder of the document.

    A relative path stays in that folder, so that what others have written reads nothing else through `..` or links. A
    full path is there for everyone to see.

    Args:
        base: The folder.
        path: As it was written.
        where: Of the path, for messages.
        deep: Whether everything in a folder that it names is looked at, too.

    Raises:
        ConfigError: It, or something in a folder that it names, leads out of the folder.
    """
    if "\0" in path:
        raise ConfigError("a path cannot hold a NUL", where=where)
    try:
        given = Path(path).expanduser()
        place = base / given
        if given.is_absolute():
            return place
        root = base.resolve()
        for file in [place, *(place.rglob("*") if deep and place.is_dir() else ())]:
            if not file.resolve().is_relative_to(root):
                raise ConfigError(
                    f"`{file.relative_to(base)}` leads out of the folder {base}",
                    where=where,
                    remedy=f"Move it there, or name it by its full path: {file.resolve()}",
                )
    except RuntimeError as error:  # a link to itself, or the home of nobody
        raise ConfigError(f"`{path}` leads nowhere: {error}", where=where) from None
    return place


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Yields what is not the same in two documents, each with its dotted path.

    Args:
        old, new: Of JSON's types. Lists of named things are compared name by name.
        where: Path of both in a larger document.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            path = f"{where}.{key}" if where else str(key)
            if key not in new:
                yield f"`{path}` is gone"
            elif key not in old:
                yield f"`{path}` is new"
            else:
                yield from differences(old[key], new[key], path)
        return
    old_named, new_named = _named(old), _named(new)
    if old_named is not None and new_named is not None:
        yield from differences(old_named, new_named, where)
        if {*old_named} == {*new_named} and [*old_named] != [*new_named]:
            yield f"`{where}` is in another order"
    elif old != new:
        yield f"`{where}` was {_short(old)} and is now {_short(new)}"


def _named(document: Any) -> dict[str, Any] | None:
    """Returns a list of named things by their names, None for anything else."""
    if not isinstance(document, list) or not all(isinstance(item, Mapping) for item in document):
        return None
    names = [item.get("name", item.get("stage")) for item in document]
    return None if None in names or len(set(names)) < len(names) else dict(zip(names, document, strict=True))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def validate(model: type[Model], document: Any, *, where: str, flags: Mapping[str, str] | None = None) -> Model:
    """Returns `document` as a model.

    Args:
        where: The file's name for messages.
        flags: Dotted paths that a command-line flag has set -> that flag; such errors name the flag, not the file.

    Raises:
        ConfigError: With one problem for each thing that is wrong.
    """
    if not isinstance(document, Mapping):
        raise ConfigError("is not a mapping of keys to values", where=where)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = [_problem(detail, model, where, flags or {}) for detail in error.errors(include_url=False)]
        raise ConfigError(problems) from None


def _problem(detail: ErrorDetails, model: type[BaseModel], where: str, flags: Mapping[str, str]) -> Problem:
    # Parts in angle brackets are tags of discriminated unions, which the file does not contain.
    path = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith("<"))]
    dotted = ".".join(str(part) for part in path)
    place = flags.get(dotted) or (f"{where}: {dotted}" if dotted else where)
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys(model, path[:-1])
        return Problem(f"unknown key `{path[-1]}`", place, did_you_mean(str(path[-1]), known))
    if kind == "missing":
        return Problem("is missing", place, "Add it.")
    found = detail["input"]
    shown = (
        f"found `{found}`" if isinstance(found, (str, int, float, bool)) or found is None else "found " + _kind(found)
    )
    if kind in ("literal_error", "enum"):
        # Such as "'auto', True or False", of which YAML writes the last two in small letters.
        expected = re.findall(r"'([^']*)'|\b(True|False)\b", str(context.get("expected", "")))
        allowed = [word or truth.lower() for word, truth in expected]
        remedy = did_you_mean(found, allowed) if isinstance(found, str) else ""
        # All that is known has been told by then.
        told = remedy if remedy.startswith("Did you mean") else ""
        return Problem(f"{shown}; allowed: {', '.join(f'`{one}`' for one in allowed)}", place, told)
    if kind == "value_error":
        return Problem(str(context["error"]), place.removesuffix(".value"))
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return Problem(f"{shown}; allowed: {word} {context[key]:g}", place)
    if kind == "string_pattern_mismatch":
        return Problem(
            f"{shown}; allowed: letters, digits, `.`, `_` and `-`, at most 100, the first a letter or digit", place
        )
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    return Problem(f"{shown}; {message}", place)


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) else type(value).__name__


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Returns the keys allowed at a path within a model; of a union, those of every member."""
    models = [model]
    for part in path:
        fields = [one.model_fields[part] for one in models if isinstance(part, str) and part in one.model_fields]
        # A part that is no field is a position in a list or a key of a free mapping.
        models = [inner for field in fields for inner in _models(field.annotation)] if fields else models
    return list(dict.fromkeys(name for one in models for name in one.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Returns the models named anywhere in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]
