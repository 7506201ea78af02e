"""Read a configuration: one YAML file, dotted overrides on top, validated into a pydantic model.

`load_config(PolicyJobConfig, "configs/quickstart/baseline.yaml", ["data.plan.max_steps=4"])`: each override's value is
parsed as YAML (`null`, `[1, 2]`, `0.5`, `text`). Unknown keys are refused and the nearest valid one is named; a key
that stands twice in a section is refused, too.
"""

from __future__ import annotations

import copy
import difflib
import types
import typing
from collections.abc import Collection, Iterable, Sequence
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
        content = _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file {path}; see configs/quickstart and configs/production"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, not a mapping of sections")
    keys = [_apply_override(content, override) for override in overrides]
    return validate(model, content, str(path), keys)


def validate_overrides(model: type[ConfigT], overrides: Iterable[str]) -> ConfigT:
    """A configuration of defaults and overrides alone, for a command without a file."""
    content: dict[str, Any] = {}
    for override in overrides:
        _apply_override(content, override)
    return validate(model, content, "command line")


def changed(content: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of a configuration's content, changed by `key.sub=value` overrides."""
    copied = copy.deepcopy(content)
    for override in overrides:
        _apply_override(copied, override)
    return copied


def validate(
    model: type[ConfigT], content: dict[str, Any], place: str, overridden: Collection[str] = ()
) -> ConfigT:
    """`content` as a `model`; `ConfigError` with one clause per problem, `place` first. A problem with an `overridden`
    key or section says that the command line changed it."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = [(_describe(model, problem), _key(model, problem["loc"])) for problem in error.errors()]
        clauses = [
            f"{text} (changed on the command line)" if _touches(key, overridden) else text
            for text, key in problems
        ]
        raise ConfigError(f"{place}: {'; '.join(clauses)}") from None


def _key(model: type[BaseModel], location: Sequence[int | str]) -> str:
    return ".".join(_place(model, location)[0])


def _touches(key: str, others: Collection[str]) -> bool:
    """Whether one of them is the key, lies in it, or holds it."""
    return any(f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.") for other in others)


def _apply_override(content: dict[str, Any], override: str) -> str:
    """Returns the dotted key."""
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"override {override!r} is not of the form key.sub=value")
    try:
        value = _parse(text)
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
    return key.strip()


class _StrictLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys of a section without a word; this loader refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value} stands twice in one section; remove one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse(text: str) -> Any:
    return yaml.load(text, _StrictLoader)  # a SafeLoader: plain values only


def _describe(model: type[BaseModel], problem: Any) -> str:
    location: Sequence[int | str] = problem["loc"]
    parts, _ = _place(model, location)
    key, context = ".".join(parts), problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            section, siblings = _place(model, location[:-1])
            close = difflib.get_close_matches(str(location[-1]), siblings, n=1, cutoff=0.0)
            hint = f"did you mean {close[0]}?" if close else "remove it"
            return f"unknown key {'.'.join([*section, str(location[-1])])}; {hint}"
        case "missing" if isinstance(location[-1], int):
            return f"{'.'.join(parts[:-1])} has {location[-1]} values, which is too few; add the others"
        case "missing":
            return f"{key} is missing; set it in the file or as {key}=VALUE"
        case "union_tag_invalid":
            tag = f"{key}.{context['discriminator'].strip(chr(39))}"
            return f"{tag} = {context['tag']!r}: input should be one of {context['expected_tags']}"
        case "union_tag_not_found":
            tag = f"{key}.{context['discriminator'].strip(chr(39))}"
            return f"{tag} is missing; set it in the file or as {tag}=VALUE"
        case "value_error":
            return f"{key}: {context['error']}" if key else str(context["error"])
    return f"{key} = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _place(model: type[BaseModel], location: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """`location` as the user writes it, and the names of the fields that are valid in that section.

    pydantic names the chosen member of a tagged union like a key: (weighting, critic, beta) is weighting.beta.
    """
    parts: list[str] = []
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        annotations = [m.model_fields[part].annotation for m in candidates if part in m.model_fields]
        tagged = [
            m
            for m in candidates
            if any(part in typing.get_args(f.annotation) for f in m.model_fields.values())
        ]
        if not annotations and len(candidates) > 1 and tagged:
            candidates = tagged
            continue
        parts.append(str(part))
        candidates = [m for a in annotations for m in _models_in(a)] or candidates
    return parts, [name for m in candidates for name in m.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return [m for argument in typing.get_args(annotation) for m in _models_in(argument)]
    return []


def dump_yaml(config: BaseModel) -> str:
    """The whole resolved configuration as YAML, keys in the order of the models."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
