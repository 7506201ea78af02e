"""Read a configuration: one YAML file, dotted overrides on top, validated into a pydantic model.

`load_config(PolicyJobConfig, "configs/quickstart/baseline.yaml", ["training.max_steps=4"])`: each override's value is
parsed as YAML (`null`, `[1, 2]`, `0.5`, `text`). Unknown keys are refused and the nearest valid one is named.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from wmtp_ray.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def load_config(model: type[ConfigT], path: str | Path, overrides: Iterable[str] = ()) -> ConfigT:
    """The configuration in the YAML file at `path`, changed by `key.sub=value` overrides.

    Raises `ConfigError` that names the file, the key, the value and the remedy.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file {path}; see configs/quickstart and configs/production"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, not a mapping of sections")
    for override in overrides:
        _apply_override(content, override)
    return validate(model, content, str(path))


def validate_overrides(model: type[ConfigT], overrides: Iterable[str]) -> ConfigT:
    """A configuration of defaults and overrides alone, for a command without a file."""
    content: dict[str, Any] = {}
    for override in overrides:
        _apply_override(content, override)
    return validate(model, content, "command line")


def validate(model: type[ConfigT], content: dict[str, Any], place: str) -> ConfigT:
    """`content` as a `model`; `ConfigError` with one clause per problem, `place` first."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe(model, problem) for problem in error.errors())
        raise ConfigError(f"{place}: {problems}") from None


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"override {override!r} is not of the form key.sub=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value; quote it") from None
    *parents, last = key.strip().split(".")
    target = content
    for parent in parents:
        child = target.setdefault(parent, {})
        if child is None:
            child = target[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent} is {child!r}, not a section")
        target = child
    target[last] = value


def _describe(model: type[BaseModel], problem: Any) -> str:
    location: Sequence[int | str] = problem["loc"]
    key = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        siblings = _fields_at(model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), siblings, n=1, cutoff=0.0)
        hint = f"did you mean {close[0]}?" if close else "remove it"
        return f"unknown key {key}; {hint}"
    if problem["type"] == "missing":
        return f"{key} is missing; set it in the file or as {key}=VALUE"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    return f"{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Names of the fields that are valid in the section at `location`."""
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        annotations = [m.model_fields[part].annotation for m in candidates if part in m.model_fields]
        deeper = [m for a in annotations for m in _models_in(a)]
        candidates = deeper or candidates  # the tag of a union is a location part without a field
    return [name for m in candidates for name in m.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]
    return []


def dump_yaml(config: BaseModel) -> str:
    """The whole resolved configuration as YAML, keys in the order of the models."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
