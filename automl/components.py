"""Catalogues of components: name -> factory, with the factory's signature as the schema of its hyperparameters.

A factory takes what the pipe supplies as positional parameters and its hyperparameters as keyword-only parameters
with defaults. Nothing about a hyperparameter is written twice: the search space declares ranges, the factory names
and defaults.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, TypeVar, Union

from automl.errors import ConfigError, did_you_mean
from automl.values import OPTIONAL_PLACES, REQUIRED_PLACES, Choice, Scalar, Value

#: Traits of classes that somebody else wrote, which know nothing of this package: what Lightning trains and feeds.
LIGHTNING_MODULE, LIGHTNING_DATA_MODULE = "lightning_module", "lightning_data_module"

Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """A keyword-only parameter of a factory.

    Attributes:
        allowed: The types that its annotation allows; empty when it is not annotated.
        choices: The values of a `Literal` in its annotation, alone or beside types: `float | Literal["find"]`.
    """

    name: str
    default: Any
    allowed: tuple[type, ...] = ()
    choices: tuple[Scalar, ...] = ()

    @property
    def required(self) -> bool:
        """Whether it has no default; only sources and Lightning's classes may have such."""
        return self.default is inspect.Parameter.empty

    def accepts(self, value: Value) -> bool:
        """Returns whether `value` may be passed: an int passes for a float, a bool never for a number."""
        if any(value == choice and type(value) is type(choice) for choice in self.choices):
            return True
        if not self.allowed:
            return not self.choices
        if isinstance(value, bool):
            return bool in self.allowed
        return isinstance(value, self.allowed) or (isinstance(value, int) and float in self.allowed)

    def describe(self) -> str:
        """Returns what is allowed, in words."""
        if self.choices and not self.allowed:
            return "one of " + ", ".join(f"`{choice}`" for choice in self.choices)
        words = {type(None): "null", dict: "mapping"}
        told = [words.get(kind, kind.__name__) for kind in self.allowed]
        return " or ".join([*told, *(f"`{choice}`" for choice in self.choices)]) or "any value"


@dataclass(frozen=True, slots=True)
class Component:
    """A registered factory.

    Attributes:
        traits: Facts about the component that the pipe acts on, each explained where it is read.
        takes_others: Whether it takes hyperparameters that its signature does not name.
    """

    kind: str
    name: str
    factory: Callable[..., Any]
    hyperparameters: Mapping[str, Hyperparameter]
    traits: frozenset[str]
    takes_others: bool = False

    @property
    def is_module(self) -> bool:
        """Whether it is somebody's LightningModule, which is trained as it is."""
        return LIGHTNING_MODULE in self.traits

    @property
    def is_data_module(self) -> bool:
        """Whether it is somebody's LightningDataModule, which is read as it is."""
        return LIGHTNING_DATA_MODULE in self.traits

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0]

    @property
    def missing_package(self) -> str | None:
        """The package that it needs and that is not installed; a trait such as `package:umap-learn` says which."""
        for trait in self.traits:
            if trait.startswith("package:"):
                name = trait.removeprefix("package:")
                try:
                    metadata.version(name)
                except metadata.PackageNotFoundError:
                    return name
        return None


class Catalogue:
    """The components of one kind, by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._components: dict[str, Component] = {}

    def add(self, name: str, factory: Callable[..., Any], traits: Iterable[str] = ()) -> None:
        """Registers a factory.

        Raises:
            ConfigError: The name is taken by another factory, or the signature is not one of a component.
        """
        known = self._components.get(name)
        if known is not None and known.factory is not factory:
            raise ConfigError(
                f"the {self.kind} `{name}` is registered twice, "
                f"by {known.factory.__module__} and by {factory.__module__}",
                remedy="Rename one of them.",
            )
        lightning = _lightning(factory)
        if lightning is None:
            hyperparameters, takes_others = _hyperparameters(self.kind, name, factory), False
        else:
            hyperparameters, takes_others = _arguments(factory)
        known_traits = frozenset(traits) | ({lightning} if lightning else frozenset())
        self._components[name] = Component(self.kind, name, factory, hyperparameters, known_traits, takes_others)

    def __getitem__(self, name: str) -> Component:
        try:
            return self._components[name]
        except KeyError:
            raise ConfigError(f"unknown {self.kind} `{name}`", remedy=did_you_mean(name, self.names())) from None

    def __contains__(self, name: object) -> bool:
        return name in self._components

    def __iter__(self) -> Iterator[Component]:
        return iter(self._components.values())

    def names(self) -> list[str]:
        return sorted(self._components)

    def build(self, choice: Choice, *supplied: Any) -> Any:
        """Returns what the chosen factory makes of what the pipe supplies and the choice's hyperparameters."""
        return self[choice.name].factory(*supplied, **choice.params)


#: Kinds that are preprocessing stages, in the order in which an unordered mind would run them.
STAGES = (
    *("tokenisation", "vectorisation"),
    *("cleaning", "imputation", "encoding", "clipping", "scaling", "resampling", "selection", "reduction"),
)

CATALOGUES: dict[str, Catalogue] = {
    kind: Catalogue(kind) for kind in (*STAGES, *REQUIRED_PLACES, *OPTIONAL_PLACES, "source")
}


def catalogue(kind: str) -> Catalogue:
    """Returns the catalogue of a kind, such as `network` or `imputation`."""
    if kind not in CATALOGUES:
        raise ConfigError(f"unknown kind of component `{kind}`", remedy=did_you_mean(kind, list(CATALOGUES)))
    return CATALOGUES[kind]


def register(kind: str, *traits: str, name: str | None = None) -> Callable[[Factory], Factory]:
    """Returns a decorator that registers a factory in the catalogue of `kind`, under its own name unless told.

    Args:
        kind: A preprocessing stage, another place of a configuration such as `network` or `loss`, or `source`.
        traits: Facts that the pipe acts on.
        name: The component's name where the function's would shadow something.
    """

    def decorate(factory: Factory) -> Factory:
        catalogue(kind).add(name or factory.__name__, factory, traits)
        return factory

    return decorate


def _hyperparameters(kind: str, name: str, factory: Callable[..., Any]) -> dict[str, Hyperparameter]:
    found = {}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.default is inspect.Parameter.empty and kind != "source":
            raise ConfigError(
                f"the {kind} `{name}` has no default for `{parameter.name}`",
                remedy="Give every keyword-only parameter a default, so that it can be trained untuned.",
            )
        allowed, choices = _allowed(_resolve(factory, parameter))
        found[parameter.name] = Hyperparameter(parameter.name, parameter.default, allowed, choices)
    return found


def _lightning(factory: Callable[..., Any]) -> str | None:
    """Returns which of Lightning's classes this is, None for any other; told by its methods, without torch."""
    if not inspect.isclass(factory):
        return None
    if hasattr(factory, "training_step") and hasattr(factory, "configure_optimizers"):
        return LIGHTNING_MODULE
    return LIGHTNING_DATA_MODULE if hasattr(factory, "train_dataloader") and hasattr(factory, "setup") else None


def _arguments(factory: Callable[..., Any]) -> tuple[dict[str, Hyperparameter], bool]:
    """Returns what the `__init__` of a class takes by name, and whether it takes other names as well."""
    found, takes_others = {}, False
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            takes_others = True
        elif parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            try:
                allowed, choices = _allowed(_resolve(factory, parameter))
            except (NameError, TypeError):  # it names what only type checkers import: nothing can be checked
                allowed, choices = (), ()
            found[parameter.name] = Hyperparameter(parameter.name, parameter.default, allowed, choices)
    return found, takes_others


def _resolve(factory: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Returns a parameter's annotation as a type. One at a time: others may name what only type checkers import."""
    target = factory.__init__ if inspect.isclass(factory) else factory
    alone = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    return typing.get_type_hints(alone, globalns=getattr(target, "__globals__", {}))[parameter.name]


#: What a YAML file has for the types of annotations.
_PLAIN: dict[Any, type] = {
    tuple: list,
    collections.abc.Sequence: list,
    collections.abc.Iterable: list,
    collections.abc.Mapping: dict,
    None: type(None),
}


def _allowed(annotation: Any) -> tuple[tuple[type, ...], tuple[Scalar, ...]]:
    """Returns (types, literal choices) of an annotation; both empty when it says nothing that can be checked."""
    is_union = typing.get_origin(annotation) in (Union, types.UnionType)
    parts = typing.get_args(annotation) if is_union else (annotation,)
    literals = [part for part in parts if typing.get_origin(part) is Literal]
    choices = tuple(choice for literal in literals for choice in typing.get_args(literal))
    generic = [typing.get_origin(part) or part for part in parts if part not in literals]
    allowed = tuple(kind for kind in (_PLAIN.get(part, part) for part in generic) if isinstance(kind, type))
    if not is_union and not {*allowed} <= {bool, int, float, str, list, dict}:
        return (), choices
    return allowed, choices
