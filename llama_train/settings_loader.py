"""Read settings: one flat YAML file, then `--key value` words, converted by the types of a dataclass's fields."""

import difflib
import inspect
import math
import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from llama_train.settings_names import modernize

Settings = TypeVar("Settings")
MAX_YAML_BYTES = 2**20
UNDECIDED = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def read_settings(argv: list[str], cls: type[Settings]) -> Settings:
    """A `cls` from `[YAML] [--key value | --key=value | --flag]...`; words win over the file, null means the default.

    Raises ValueError in one line for what cannot be read, an unknown key or a value of the wrong type; OSError when the
    file cannot be opened. `--help` prints the table and raises SystemExit(0).
    """
    if "--help" in argv or "-h" in argv:
        table = inspect.getsource(cls).split("\n    def ")[0]
        print(f"usage: [YAML] [--key value | --key=value | --flag]...\n\n{table.rstrip()}")
        raise SystemExit(0)
    kinds = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    words = list(argv)
    if words and not words[0].startswith("-"):
        values |= modernize(_read_yaml(Path(words.pop(0))), kinds)
    values |= modernize(_read_words(words, kinds), kinds)
    unknown = [key for key in values if key not in kinds]
    if unknown:
        near = difflib.get_close_matches(unknown[0], kinds, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown setting '{unknown[0]}'; the nearest is '{near}' (--help lists all)")
    defaults = {field.name: field.default for field in fields(cls)}  # type: ignore[arg-type]
    given = {key: defaults[key] if value is None else convert(key, value, kinds[key]) for key, value in values.items()}
    return cls(**given)


def _read_yaml(file: Path) -> dict[str, Any]:
    """The file's keys and values. Aliases, nesting and repeated keys are refused before anything is built from them."""
    if file.stat().st_size > MAX_YAML_BYTES:
        raise ValueError(f"{file}: {file.stat().st_size} bytes is too long for a settings file")
    try:
        text = file.read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            mark = event.start_mark
            where = f"{file}: line {mark.line + 1 if mark else '?'}"
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise ValueError(f"{where}: YAML anchors and aliases are not used here")
            if getattr(event, "tag", None):  # PyYAML raises whatever a tag's constructor raises
                raise ValueError(f"{where}: not valid YAML for settings: tags (!!...) are not used here")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 2 or (depth == 2 and isinstance(event, yaml.MappingStartEvent)):
                raise ValueError(f"{where}: settings are flat, one `key: value` a line")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ValueError(f"{file}: line {line}: not valid YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"{file}: not valid YAML: {error.reason} at position {error.position}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file}: not a text file in UTF-8") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected `key: value` lines, found {type(content).__name__}")
    keys = [key.value for key, _ in node.value] if node else []
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise ValueError(f"{file}: {', '.join(repeated)} is set more than once")
    # what looks like a number or a date may be meant as text (`run_name: 2024`): its field decides
    as_written = {key.value: value.value for key, value in node.value if value.tag in UNDECIDED} if node else {}
    return {str(key): value for key, value in content.items()} | as_written


def _read_words(words: list[str], kinds: dict[str, Any]) -> dict[str, Any]:
    """`--key value`, `--key=value`, and `--flag` for switches; dashes inside a key count as underscores."""
    values: dict[str, Any] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise ValueError(f"'{word}' does not belong to a setting: write [YAML] [--key value]..., the file first")
        key, equals, value = word[2:].partition("=")
        key = key.replace("-", "_")
        if not equals:
            if words and not words[0].startswith("--"):
                value = words.pop(0)
            elif bool in _options(kinds.get(key, bool)):  # old names of switches are not in `kinds`
                value = "true"
            else:
                raise ValueError(f"--{key} needs a value: --{key} VALUE")
        values[key] = None if value == "null" else value
    return values


def convert(key: str, value: Any, kind: Any) -> Any:
    """`value` as the field type `kind`; text is read as the type wants it, since YAML leaves `3e-4` as text.

    Raises ValueError with key, value and expected type.
    """
    options = _options(kind)
    for option in options:
        converted = _as_option(value, option)
        if converted is not None:
            return converted
    raise ValueError(f"{key}: {value!r} is not valid, expected {' or '.join(_describe(option) for option in options)}")


def _options(kind: Any) -> tuple[Any, ...]:
    """The alternatives of a union, without None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(option for option in typing.get_args(kind) if option is not type(None))
    return (kind,)


def _as_option(value: Any, option: Any) -> Any:
    """`value` as `option`, or None if it is not one."""
    text = value.strip() if isinstance(value, str) else None
    if option is bool:
        if text is not None and text.lower() in TRUE + FALSE:
            return text.lower() in TRUE
        return value if isinstance(value, bool) else None
    if option in (int, float):
        return _as_number(value if text is None else text, option)
    if option is str:
        return value if text else None
    if typing.get_origin(option) is typing.Literal:
        return value if value in typing.get_args(option) else None
    items = [item.strip() for item in text.split(",")] if text is not None else value
    is_list = isinstance(items, list) and all(isinstance(item, str) for item in items)
    return [item for item in items if item] if is_list else None


def _as_number(value: Any, option: type) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        if option is int and isinstance(value, (int, str)):
            try:
                return int(value)
            except ValueError:
                pass
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    if option is float:
        return number
    return int(number) if number.is_integer() and abs(number) < 2**63 else None


def _describe(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(option)))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(option, "a list of names")
