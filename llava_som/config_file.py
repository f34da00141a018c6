"""One way to configure every command: YAML files, then `key=value`, checked strictly before anything runs.

    python -m train scripts/recipes/cpu_smoke.yaml learning_rate=1e-3 deepspeed=scripts/deepspeed/zero2.json

A command's options are the fields of plain dataclasses. An unknown key is an error with the closest match, a value
of the wrong type is an error that names the key. No framework is imported for `--help`, and pydantic only where there
is a value to check: a model without options in its config needs none.
"""

from __future__ import annotations

import dataclasses
import datetime
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from llava_som.registry import closest_match_message

C = TypeVar("C")


def read_options(argv: Sequence[str]) -> dict[str, Any]:
    """YAML files and `key=value` words, left to right, merged into one dict; later words win.

    Values are YAML, so `epochs=2` is a number and `tasks=[pope,mme]` a list. `a.b=1` reaches into a mapping.
    """
    options: dict[str, Any] = {}
    for word in argv:
        key, equals, value = word.partition("=")
        if equals:
            _assign(options, key.strip().lstrip("-"), _yaml_value(value))
        elif word.endswith((".yaml", ".yml")):
            options.update(_read_yaml(Path(word)))
        else:
            raise ValueError(f"Cannot read {word!r}. Write a YAML file name or key=value; --help lists the keys.")
    return options


def parse_options(config_class: type[C], options: dict[str, Any]) -> C:
    """Options as an instance of `config_class`, every key and type checked.

    Raises:
        ValueError: an unknown key (with the closest match), a missing one, or a value of the wrong type.
    """
    fields = {field.name: field for field in dataclasses.fields(config_class) if field.init}  # type: ignore[arg-type]
    for key in options:
        if key not in fields:
            raise ValueError(closest_match_message("option", key, fields))
    for name, field in fields.items():
        if (
            name not in options
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ):
            raise ValueError(
                f"The option {name!r} is required: {name}=... ({field.metadata.get('help', 'see --help')})."
            )
    hints = typing.get_type_hints(config_class)
    return config_class(**{key: _checked(fields[key], value, hints[key]) for key, value in options.items()})


def describe_options(config_class: type, usage: str, examples: Sequence[str]) -> str:
    """The text of `--help`: usage, each option with its type, default and meaning, then examples."""
    lines = [f"usage: {usage}", "", "options (key=value on the command line, or in a YAML file):"]
    for field in dataclasses.fields(config_class):
        if not field.init:
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        stated = "required" if default is dataclasses.MISSING else f"default {default!r}"
        kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
        lines.append(f"  {field.name}  ({kind}; {stated})")
        if help_text := field.metadata.get("help"):
            lines.append(f"      {help_text}")
    return "\n".join([*lines, "", "examples:", *(f"  {example}" for example in examples)])


def option(default: Any = dataclasses.MISSING, *, help: str, factory: Any = dataclasses.MISSING) -> Any:  # noqa: A002
    """A dataclass field with the sentence that `--help` prints; no default and no factory makes it required."""
    return dataclasses.field(default=default, default_factory=factory, metadata={"help": help})


def _assign(options: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        options = options.setdefault(parent, {})
        if not isinstance(options, dict):
            raise ValueError(f"{dotted}={value}: {parent!r} already has a plain value, it cannot hold {last!r}.")
    options[last] = value


def _yaml_value(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{text!r} is not a YAML value ({error}). Quote it if it is meant as text.") from None
    return _scientific(value)


def _scientific(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text; a number written so is meant as a number."""
    if isinstance(value, dict):
        return {key: _scientific(item) for key, item in value.items()}
    if isinstance(value, str) and "e" in value.lower() and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; plain YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.append(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file}: no such configuration file.")
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must hold `key: value` lines, found {type(content).__name__}.")
    return _scientific(content)


def _checked(field: dataclasses.Field[Any], value: Any, hint: Any) -> Any:
    """The value as the type it is to have; where a list is wanted, a single plain value is a list of one."""
    from pydantic import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeAdapter, ValidationError

    key, form = field.name, _form(hint)
    if form is list and isinstance(value, (str, int, float, Path)):
        value = [value]
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        if value is None:
            raise ValueError(f"{key}= needs a value: {field.metadata.get('help', 'see --help')}.") from None
        advice = f""" If it is meant as text: {key}='"{value}"'""" if _would_be_text(value, hint) else ""
        problem = _misshapen(field, value, form) or f"{error.errors()[0]['msg']}."
        raise ValueError(f"{key}={value!r}: {problem}{advice}") from None
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation):
        return value


def _form(hint: Any) -> Any:
    """What a hint is at its outside: list (any number of values), a tuple of the wanted types, dict, or the hint.

    An alternative to None is that alternative.
    """
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        others = [part for part in parts if part is not type(None)]
        return _form(others[0]) if len(others) == 1 else hint
    if kind is tuple and parts and Ellipsis not in parts:
        return parts
    return list if kind in (list, tuple) else kind


def _misshapen(field: dataclasses.Field[Any], value: Any, form: Any) -> str | None:
    """What to write instead of a value that is not even the mapping or the list that is wanted."""
    key = field.name
    if form is dict and not isinstance(value, dict):
        return f"takes values by name. Write {key}.NAME=value ({field.metadata.get('help', 'see --help')})."
    if form is list and not isinstance(value, (list, tuple)):
        return f"takes a list. Write {key}=[...]."
    if isinstance(form, tuple) and (not isinstance(value, (list, tuple)) or len(value) != len(form)):
        types_of_parts = [getattr(part, "__name__", part) for part in form]
        example = field.default if isinstance(field.default, tuple) else types_of_parts
        return f"takes {len(form)} values. Write {key}=[{', '.join(map(str, example))}]."
    return None


def _would_be_text(value: Any, hint: Any) -> bool:
    """Whether YAML read a number, date or truth value where a text is wanted: a folder named 2024, a model named on."""
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(value, (bool, int, float, datetime.date)):
        return False
    try:
        TypeAdapter(hint).validate_python(str(value))
    except ValidationError:
        return False
    return True
