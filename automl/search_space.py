"""Search spaces: which components a study chooses among, and the ranges of their hyperparameters.

A search space is data. It can be checked against the catalogues, sampled by an Optuna trial, or run once with its
defaults. The words are Optuna's. Parameter names are dotted paths with the option inside (`network.mlp.depth`), so
that the parameters of one option never collide with those of another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_serializer,
    model_validator,
)

from automl.components import STAGES, Catalogue, Hyperparameter
from automl.documents import read_yaml, validate, within
from automl.errors import ConfigError, Problem, did_you_mean
from automl.values import (
    FULL,
    OWN,
    USUAL_LOSSES,
    Choice,
    ColumnKind,
    Configuration,
    Scalar,
    Schema,
    Step,
    Target,
    Task,
    Value,
)

#: The places that a LightningModule fills itself.
BROUGHT = ("optimizer", "schedule", "loss", "augmentation", "averaging", "batches", "balancing", "domain", "clip_norm")

#: Traits of components that are for some kinds of tasks alone.
TASK_KINDS = frozenset(task.kind for task in Task)


class Suggester(Protocol):
    """What of an Optuna trial is used; `optuna.trial.FixedTrial` replays a configuration."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


class _Given:
    """A trial whose parameters are known."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._parameters[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._parameters[name])

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._parameters[name])


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _plain(value: Any) -> Any:
    """Returns a value as YAML has it: plain, or a list of such."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    raise ValueError("must be a plain value, a list of such, or a mapping with a `type`")


def _word(value: Any) -> Scalar:
    """Returns what Optuna is told of a value: lists as JSON, since it keeps plain values only."""
    return json.dumps(value) if isinstance(value, list) else value


Plain = Annotated[Any, BeforeValidator(_plain)]
When = Annotated[
    dict[str, Plain],
    Field(
        description="Parameters that stand above it, each with its value, or a list of values, with which this one is "
        "searched; with others it keeps the component's default."
    ),
]


class _Range(_Strict):
    """What integer and float ranges share; `low`, `high`, `step` and `default` are declared by each."""

    when: When = {}
    log: bool = Field(False, description="Sample on a logarithmic scale.")

    @model_validator(mode="after")
    def _possible(self) -> _Range:
        low, high, step, default = (getattr(self, name) for name in ("low", "high", "step", "default"))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"`low` and `high` must be finite; found low={low}, high={high}")
        if low > high:
            raise ValueError(f"`low` must not be above `high`; found low={low}, high={high}")
        if self.log and low <= 0:
            raise ValueError(f"a logarithmic range starts above 0; found low={low}")
        if self.log and step not in (None, 1):
            raise ValueError("a logarithmic range takes no `step`")
        if step is not None and not 0 < step < math.inf:
            raise ValueError(f"`step` must be above 0; found {step}")
        if default is not None and not low <= default <= high:
            raise ValueError(f"`default` must lie between low={low} and high={high}; found {default}")
        return self


class IntRange(_Range):
    """An integer between `low` and `high`, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: int = 1
    default: int | None = None

    def suggest(self, trial: Suggester, name: str) -> Scalar:
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def middle(self) -> Scalar:
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return self.nearest(middle)

    def nearest(self, value: Any) -> Scalar:
        """Returns the value of the range nearest to `value`."""
        clamped = float(min(max(value, self.low), self.high))
        n_steps = min(round((clamped - self.low) / self.step), (self.high - self.low) // self.step)
        return self.low + n_steps * self.step

    def ends(self) -> tuple[Scalar, ...]:
        return self.low, self.high

    def holds(self, value: Scalar) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.nearest(value) == value


class FloatRange(_Range):
    """A number between `low` and `high`, both included."""

    type: Literal["float"]
    low: Annotated[float, Field(strict=False)]
    high: Annotated[float, Field(strict=False)]
    step: float | None = None
    default: float | None = None

    def suggest(self, trial: Suggester, name: str) -> Scalar:
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def middle(self) -> Scalar:
        return self.nearest(math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2)

    def nearest(self, value: Any) -> Scalar:
        """Returns the value of the range nearest to `value`."""
        clamped = float(min(max(value, self.low), self.high))
        if self.step is None:
            return clamped
        # `high` may lie between two steps; the last step below it is the largest value, as in Optuna.
        last = math.floor((self.high - self.low) / self.step + 1e-9)
        return min(self.low + min(round((clamped - self.low) / self.step), last) * self.step, self.high)

    def ends(self) -> tuple[Scalar, ...]:
        return self.low, self.high

    def holds(self, value: Scalar) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return math.isclose(float(str(self.nearest(value))), value)


class Categorical(_Strict):
    """One of a list of values, which may be lists themselves."""

    type: Literal["categorical"]
    choices: Annotated[tuple[Plain, ...], Field(min_length=1, strict=False)]
    default: Plain = None
    when: When = {}

    @model_validator(mode="after")
    def _possible(self) -> Categorical:
        if len(set(map(repr, self.choices))) < len(self.choices):
            raise ValueError(f"a choice stands twice: {list(self.choices)}")
        if self.default is not None and self.default not in self.choices:
            raise ValueError(f"`default` must be one of the choices {list(self.choices)}; found {self.default!r}")
        return self

    @property
    def words(self) -> tuple[Scalar, ...]:
        """The choices as Optuna knows them."""
        return tuple(_word(choice) for choice in self.choices)

    def suggest(self, trial: Suggester, name: str) -> Value:
        return self.meant(trial.suggest_categorical(name, self.words))

    def meant(self, word: Scalar) -> Value:
        """Returns the choice that Optuna's word stands for."""
        meant: Value = {_word(c): c for c in self.choices if isinstance(c, list)}.get(word, word)
        return meant

    def middle(self) -> Scalar:
        return self.words[0]

    def nearest(self, value: Any) -> Scalar:
        """Returns `value`, as Optuna knows it, if it is a choice, else the first one."""
        word = _word(list(value) if isinstance(value, tuple) else value)
        return word if word in self.words else self.words[0]

    def ends(self) -> tuple[Value, ...]:
        return self.choices

    def holds(self, value: Scalar) -> bool:
        return value in self.words


class Fixed(_Strict):
    """A plain value, or a list of such: not searched."""

    value: Plain

    @property
    def when(self) -> Mapping[str, Any]:
        """That it is always used."""
        return {}

    @model_serializer
    def _as_written(self) -> Any:
        return self.value

    def suggest(self, trial: Suggester, name: str) -> Value:
        value: Value = self.value
        return value

    def ends(self) -> tuple[Value, ...]:
        return (self.value,)


class FromData(_Strict):
    """What the table says, known once rows have been preprocessed: for a LightningModule, which asks nobody."""

    type: Literal["data"]
    value: Literal["n_inputs", "n_outputs", "input_shape"] = Field(
        description="Numbers of one row of `x`; outputs: one, or as many as classes where there are three or more, or "
        "the shape of one row of `x`."
    )
    when: When = {}

    def suggest(self, trial: Suggester, name: str) -> Value:
        return {"data": self.value}

    def ends(self) -> tuple[Value, ...]:
        return ()


class Nested(_Strict):
    """One of several options, each with parameters of its own: a mapping of the option's `name` and these."""

    type: Literal["options"]
    options: Options
    when: When = {}

    @property
    def names(self) -> Categorical:
        """The names of the options, as the parameter that chooses among them."""
        return Categorical(type="categorical", choices=tuple(option.name for option in self.options))

    def option(self, name: Any) -> Option:
        """Returns the option of this name; the first one if there is none."""
        return next((option for option in self.options if option.name == name), self.options[0])

    def suggest(self, trial: Suggester, name: str) -> Value:
        word = self.names.suggest(trial, name) if len(self.options) > 1 else self.options[0].name
        chosen = self.option(word).suggest(trial, name)
        return {"name": chosen.name, **chosen.params}

    def ends(self) -> tuple[Value, ...]:
        return ({"name": self.options[0].name},)


def _tag(value: Any) -> str:
    # A typo in a range must be told as an error of that range and of nothing else, hence no plain union.
    if isinstance(value, Mapping):
        return f"<{value.get('type')}>"
    return f"<{getattr(value, 'type', 'fixed')}>"


def _as_fixed(value: Any) -> Any:
    return value if isinstance(value, (Mapping, _Strict)) else {"value": value}


Distribution = Annotated[
    Annotated[IntRange, Tag("<int>")]
    | Annotated[FloatRange, Tag("<float>")]
    | Annotated[Categorical, Tag("<categorical>")]
    | Annotated[Nested, Tag("<options>")]
    | Annotated[FromData, Tag("<data>")]
    | Annotated[Fixed, BeforeValidator(_as_fixed), Tag("<fixed>")],
    Discriminator(
        _tag,
        custom_error_type="distribution_type",
        custom_error_message="`type` must be `int`, `float`, `categorical`, `options` or `data`; "
        "a plain value needs no `type`",
    ),
]


def _as_option(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Option(_Strict):
    """A component by name with the ranges of its hyperparameters; those left out keep the component's defaults."""

    name: str
    params: dict[str, Distribution] = {}

    @model_validator(mode="after")
    def _conditions(self) -> Option:
        above: list[str] = []
        for name, distribution in self.params.items():
            for other in distribution.when:
                if other not in above:
                    raise ValueError(f"`{name}` is searched when `{other}`, which does not stand above it")
            above.append(name)
        return self

    def suggest(self, trial: Suggester, place: str) -> Choice:
        values: dict[str, Value] = {}
        for name, distribution in self.params.items():
            if _applies(distribution.when, values):
                values[name] = distribution.suggest(trial, f"{place}.{self.name}.{name}")
        return Choice(self.name, values)

    def defaults(
        self, place: str, known: Mapping[str, Hyperparameter], changes: Mapping[str, Scalar]
    ) -> dict[str, Scalar]:
        """Returns the Optuna parameters of one choice of it, by dotted name.

        Args:
            known: The component's hyperparameters.
            changes: What shall not have its default, by dotted name.
        """
        found: dict[str, Scalar] = {}
        values: dict[str, Value] = {}
        for name, distribution in self.params.items():
            dotted = f"{place}.{self.name}.{name}"
            if not _applies(distribution.when, values):
                continue
            if isinstance(distribution, Nested):
                option = distribution.option(changes.get(dotted))
                values[name] = option.name
                if len(distribution.options) > 1:
                    found[dotted] = option.name
                found.update(option.defaults(dotted, {}, changes))
            elif isinstance(distribution, (Fixed, FromData)):
                values[name] = distribution.ends()[0] if distribution.ends() else None
            else:
                found[dotted] = changes.get(dotted, _default(distribution, known.get(name)))
                word = found[dotted]
                values[name] = distribution.meant(word) if isinstance(distribution, Categorical) else word
        return found

    def searched(self, place: str) -> Iterator[tuple[str, IntRange | FloatRange | Categorical]]:
        """Yields (dotted name, values) of all that Optuna may be asked for."""
        for name, distribution in self.params.items():
            dotted = f"{place}.{self.name}.{name}"
            if isinstance(distribution, Nested):
                if len(distribution.options) > 1:
                    yield dotted, distribution.names
                for option in distribution.options:
                    yield from option.searched(dotted)
            elif not isinstance(distribution, (Fixed, FromData)):
                yield dotted, distribution


def _applies(when: Mapping[str, Any], values: Mapping[str, Value]) -> bool:
    """Returns whether the values above a parameter are those with which it is searched."""
    return all(name in values and _is_one_of(values[name], wanted) for name, wanted in when.items())


def _is_one_of(value: Value, wanted: Any) -> bool:
    name = value.get("name") if isinstance(value, Mapping) else value  # of a choice among options
    return any(name == each and type(name) is type(each) for each in (wanted if isinstance(wanted, list) else [wanted]))


Options = Annotated[list[Annotated[Option, BeforeValidator(_as_option)]], Field(min_length=1)]


class Stage(_Strict):
    """One preprocessing stage with the options it chooses among."""

    stage: str
    options: Options


class SearchSpace(_Strict):
    """Everything a study chooses among. With one option nothing is searched; with several, the first is the default."""

    version: Literal[1]
    description: str = ""
    preprocessing: list[Stage] = []
    network: Options
    optimizer: Options | None = Field(
        None, description="Left out only where every network is a LightningModule, which brings its own."
    )
    schedule: Options = [Option(name="constant")]
    loss: Options | None = Field(
        None, description="Left out: cross-entropy for classes, mean squared error for numbers."
    )
    batch_size: Distribution = Field(Fixed(value=256), description="Rows a step; the word `full`: all of them.")
    augmentation: Options = [Option(name="none")]
    averaging: Options = [Option(name="none")]
    batches: Options = [Option(name="shuffled")]
    balancing: Options = Field([Option(name="fixed")], description="How the losses of several targets become one.")
    domain: Options | None = Field(
        None, description="Left out: everything that there is where a study names a column of domains, else nothing."
    )
    clip_norm: Distribution = Field(Fixed(value=0), description="The largest norm of a step's gradient; 0: any.")
    start: list[dict[str, Scalar]] = Field(
        [],
        description="Points that are run first, each as its changes to the defaults, by dotted names.",
    )
    portfolio: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = Field(
        None, description="Points that did well on other tables: the name of a file in `portfolios`, beside this one."
    )

    @model_validator(mode="after")
    def _distinct(self) -> SearchSpace:
        names = [stage.stage for stage in self.preprocessing]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the stage `{name}` stands twice under `preprocessing`")
        for place, options in self.places():
            known = [option.name for option in options]
            for name in known:
                if known.count(name) > 1:
                    raise ValueError(f"the option `{name}` stands twice under `{place}`")
        return self

    def places(self) -> Iterator[tuple[str, list[Option]]]:
        """Yields (dotted place, its options) in the order of the pipe."""
        for stage in self.preprocessing:
            yield f"preprocessing.{stage.stage}", stage.options
        yield "network", self.network
        if self.optimizer is not None:
            yield "optimizer", self.optimizer
        yield "schedule", self.schedule
        if self.loss is not None:
            yield "loss", self.loss
        yield "augmentation", self.augmentation
        yield "averaging", self.averaging
        yield "batches", self.batches
        yield "balancing", self.balancing
        if self.domain is not None:
            yield "domain", self.domain

    def numbers(self) -> Iterator[tuple[str, Distribution]]:
        """Yields (name, values) of what is no component."""
        yield "batch_size", self.batch_size
        yield "clip_norm", self.clip_norm

    def suggest(self, trial: Suggester, modules: Collection[str] = ()) -> Configuration:
        """Returns the configuration that an Optuna trial, or a replay of one, picks.

        Args:
            modules: Networks that are LightningModules: what they bring themselves is not asked for.
        """
        chosen: dict[str, Choice] = {}
        for place, options in self.places():
            if place in BROUGHT and chosen["network"].name in modules:
                continue
            name = options[0].name
            if len(options) > 1:
                name = trial.suggest_categorical(place, [option.name for option in options])
            chosen[place] = next(option for option in options if option.name == name).suggest(trial, place)
        batch_size = self.batch_size.suggest(trial, "batch_size")
        size = FULL if batch_size == FULL else int(str(batch_size))
        steps = tuple(Step(stage.stage, chosen[f"preprocessing.{stage.stage}"]) for stage in self.preprocessing)
        if chosen["network"].name in modules:
            return Configuration(steps, chosen["network"], optimizer=OWN, schedule=OWN, loss=OWN, batch_size=size)
        clip_norm = self.clip_norm.suggest(trial, "clip_norm")
        if self.loss is None:
            raise ConfigError("a space without losses is sampled only after `for_data` has filled them in")
        return Configuration(
            preprocessing=steps,
            network=chosen["network"],
            optimizer=chosen["optimizer"],
            schedule=chosen["schedule"],
            loss=chosen["loss"],
            batch_size=size,
            augmentation=chosen["augmentation"],
            averaging=chosen["averaging"],
            batches=chosen["batches"],
            balancing=chosen["balancing"],
            domain=chosen.get("domain", Choice("none")),
            clip_norm=float(str(clip_norm)),
        )

    def configuration(self, parameters: Mapping[str, Scalar], modules: Collection[str] = ()) -> Configuration:
        """Returns what `suggest` does where the trial's Optuna parameters are these."""
        return self.suggest(_Given(parameters), modules)

    def defaults(
        self, catalogues: Mapping[str, Catalogue], changes: Mapping[str, Scalar] | None = None
    ) -> dict[str, Scalar]:
        """Returns the Optuna parameters of one ordinary training: first options, the components' own defaults.

        A component's default that lies outside the range is moved to its nearest end, since Optuna does not check
        what is enqueued.

        Args:
            catalogues: Where the components' defaults are.
            changes: What shall not have its default, by dotted name.
        """
        changes = changes or {}
        values: dict[str, Scalar] = {}
        network = ""
        for place, options in self.places():
            wanted = changes.get(place)
            first = next((option for option in options if option.name == wanted), options[0])
            network = first.name if place == "network" else network
            if place in BROUGHT and catalogues["network"][network].is_module:
                continue
            if len(options) > 1:
                values[place] = first.name
            values.update(first.defaults(place, catalogues[_kind(place)][first.name].hyperparameters, changes))
        for name, distribution in self.numbers():
            if name in BROUGHT and catalogues["network"][network].is_module:
                continue
            if isinstance(distribution, (IntRange, FloatRange, Categorical)):
                values[name] = changes.get(name, _default(distribution, None))
        return values

    def starts(
        self, catalogues: Mapping[str, Catalogue], portfolio: Sequence[Mapping[str, Scalar]] = ()
    ) -> list[dict[str, Scalar]]:
        """Returns the Optuna parameters of the first trials: the points of `start`, and of a portfolio if there is one.

        The defaults come before all, unless there is a portfolio: then they are one of its points.

        Args:
            catalogues: Where the components' defaults are.
            portfolio: Points as those of `start`; changes to what is not searched change nothing.
        """
        points = [] if portfolio else [self.defaults(catalogues)]
        for changes in (*self.start, *portfolio):
            point = self.defaults(catalogues, changes)
            if point not in points:
                points.append(point)
        return points

    def holds(self, point: Mapping[str, Scalar]) -> bool:
        """Returns whether everything that a point changes is searched, and within its range."""
        searched = self._searched()
        return all(name in searched and searched[name].holds(value) for name, value in point.items())

    def check(self, catalogues: Mapping[str, Catalogue], *, where: str) -> list[Problem]:
        """Returns everything that the catalogues know to be wrong, such as a name that is no component's."""
        problems = []
        for stage in self.preprocessing:
            if stage.stage not in STAGES:
                problems.append(
                    Problem(
                        f"unknown stage `{stage.stage}`",
                        f"{where}: preprocessing",
                        did_you_mean(stage.stage, list(STAGES)),
                    )
                )
        for place, options in self.places():
            if _kind(place) in catalogues:
                for option in options:
                    problems += _check_option(option, catalogues[_kind(place)], f"{where}: {place}")
        for end in self.batch_size.ends():
            if end != FULL and (not isinstance(end, int) or isinstance(end, bool) or end < 1):
                must = f"must be a whole number above 0, or `{FULL}`"
                problems.append(Problem(f"found `{end}`; {must}", f"{where}: batch_size"))
        for end in self.clip_norm.ends():
            if not isinstance(end, (int, float)) or isinstance(end, bool) or end < 0:
                problems.append(Problem(f"found `{end}`; must be a number, 0 or above", f"{where}: clip_norm"))
        if self.optimizer is None and not all(_is_module(option, catalogues) for option in self.network):
            problems.append(Problem("is missing", f"{where}: optimizer", "Only a LightningModule brings its own."))
        return problems + self._check_start(where)

    def _check_start(self, where: str) -> list[Problem]:
        searched = self._searched()
        problems = []
        for number, changes in enumerate(self.start):
            for name, value in changes.items():
                place = f"{where}: start.{number}.{name}"
                if name not in searched:
                    problems.append(Problem(f"`{name}` is not searched", place, did_you_mean(name, list(searched))))
                elif not searched[name].holds(value):
                    problems.append(Problem(f"found `{value}`, which `{name}` does not hold", place))
        return problems

    def _searched(self) -> dict[str, IntRange | FloatRange | Categorical]:
        """Returns every parameter that Optuna may be asked for, by its dotted name."""
        searched: dict[str, IntRange | FloatRange | Categorical] = {}
        for place, options in self.places():
            if len(options) > 1:
                searched[place] = Categorical(type="categorical", choices=tuple(option.name for option in options))
            for option in options:
                searched.update(option.searched(place))
        for name, distribution in self.numbers():
            if isinstance(distribution, (IntRange, FloatRange, Categorical)):
                searched[name] = distribution
        return searched

    def for_target(self, target: Target, catalogues: Mapping[str, Catalogue]) -> SearchSpace:
        """Returns the space without the losses that are for other tasks, if one of them is for this one."""
        kinds = {head.task.kind for head in target.heads}
        known = catalogues["loss"]
        losses = [o for o in self.loss or () if o.name in known and is_for_task(known[o.name].traits, kinds)]
        return self.model_copy(update={"loss": losses}) if losses else self

    def for_data(self, schema: Schema) -> tuple[SearchSpace, list[str]]:
        """Returns the space without the choices that cannot matter on these columns, and sentences that say so.

        Where nothing is missing every imputation gives the same table; searching it would waste trials on repeats.
        """
        notes = []
        stages = []
        no_texts = "there are no texts" if not schema.names(ColumnKind.TEXT) else ""
        idle = {
            "imputation": "nothing is missing" if not any(column.n_missing for column in schema.used) else "",
            "encoding": "there are no categories" if not schema.names(ColumnKind.CATEGORICAL) else "",
            **dict.fromkeys(("tokenisation", "vectorisation"), no_texts),
        }
        for stage in self.preprocessing:
            if idle.get(stage.stage) and (len(stage.options) > 1 or stage.options[0].params):
                first = Option(name=stage.options[0].name)
                stages.append(Stage(stage=stage.stage, options=[first]))
                notes.append(f"{stage.stage} is not searched: {idle[stage.stage]}")
            else:
                stages.append(stage)
        loss = self.loss or [Option(name=USUAL_LOSSES[schema.target.heads[0].task])]
        balancing = self.balancing
        if schema.target.task is not Task.MULTITASK and len(self.balancing) > 1:
            balancing = [Option(name=self.balancing[0].name)]
            why = "labels count alike" if schema.target.parts else "there is one target"
            notes.append(f"balancing is not searched: {why}")
        domain = self.domain
        if domain is None and schema.names(ColumnKind.DOMAIN):
            domain = [Option(name=name) for name in ("none", "adversarial", "embedding")]
        update = {"preprocessing": stages, "loss": loss, "balancing": balancing, "domain": domain}
        narrowed = self.model_copy(update=update)
        searched = narrowed._searched()
        start = [{name: value for name, value in point.items() if name in searched} for point in self.start]
        return narrowed.model_copy(update={"start": [point for point in start if point]}), notes

    def size(self) -> int:
        """Returns how many parameters are searched, over all options."""
        return len(self._searched())


def load(path: Path) -> SearchSpace:
    """Returns the search space in a YAML file.

    Raises:
        ConfigError: With everything that is wrong with the file by itself; `check` tells the rest.
    """
    return validate(SearchSpace, read_yaml(path), where=str(path))


def find(name: str, base: Path) -> Path:
    """Returns the file of a search space.

    Args:
        name: A path ending in `.yaml`, relative to `base`, or the name of a file in a folder `search_spaces`: the
            one beside `base`, one above it, one in the working folder, or the one that comes with the package.
        base: The folder of the study's file.

    Raises:
        ConfigError: With the names that there are.
    """
    if name.endswith((".yaml", ".yml")):
        return within(base, name, "search_space")
    folders = [base, *base.resolve().parents[:2], Path.cwd()]
    candidates = [folder / "search_spaces" for folder in folders] + [bundled()]
    for folder in candidates:
        if Path(name).name == name and (path := folder / f"{name}.yaml").is_file():
            return within(base, f"search_spaces/{name}.yaml", "search_space") if folder.parent == base else path
    known = sorted({path.stem for folder in candidates for path in folder.glob("*.yaml")} | {"auto"})
    raise ConfigError(f"unknown search space `{name}`", where="search_space", remedy=did_you_mean(name, known))


def bundled() -> Path:
    """Returns the folder of the search spaces that come with the package."""
    package = Path(__file__).parent
    installed = package / "search_spaces"  # in a wheel they lie within the package, in a checkout beside it
    return installed if installed.is_dir() else package.parent / "search_spaces"


def auto(schema: Schema) -> Path:
    """Returns the file of the bundled search space that suits the data.

    Texts beside columns are a matter of columns, as numbers that tell what they are about.
    """
    if schema.forecast is not None:
        return bundled() / "forecasts.yaml"
    kinds = {block.kind for block in schema.blocks}
    if kinds and schema.names(ColumnKind.TEXT):
        kinds.add(ColumnKind.TEXT)
    if not kinds and all(column.kind is ColumnKind.TEXT for column in schema.used):
        kinds = {ColumnKind.TEXT}
    if len(kinds) > 1:
        return bundled() / "mixtures.yaml"
    for kind in kinds:
        return bundled() / f"{kind.value}s.yaml"
    task = schema.target.task
    return bundled() / f"tabular_{task.kind if task.kind in ('classification', 'regression') else 'targets'}.yaml"


def is_for_task(traits: Collection[str], kinds: Collection[str]) -> bool:
    """Returns whether a component with these traits is for any of these kinds of tasks; without such a trait, it is."""
    wanted = TASK_KINDS.intersection(traits)
    return not wanted or not wanted.isdisjoint(kinds)


def _is_module(option: Option, catalogues: Mapping[str, Catalogue]) -> bool:
    """Returns whether a network is a LightningModule; of one that is not known, so that it is told once, yes."""
    return option.name not in catalogues["network"] or catalogues["network"][option.name].is_module


def _kind(place: str) -> str:
    return place.removeprefix("preprocessing.")


def _default(distribution: IntRange | FloatRange | Categorical, known: Hyperparameter | None) -> Scalar:
    if distribution.default is not None:
        return distribution.default
    return distribution.nearest(known.default) if known and known.default is not None else distribution.middle()


def _check_option(option: Option, known: Catalogue, place: str) -> list[Problem]:
    if option.name not in known:
        return [Problem(f"unknown {known.kind} `{option.name}`", place, did_you_mean(option.name, known.names()))]
    hyperparameters = known[option.name].hyperparameters
    problems = []
    if (package := known[option.name].missing_package) is not None:
        remedy = f"Install it: pip install {package}"
        problems.append(
            Problem(f"`{option.name}` needs the package `{package}`, which is not installed", place, remedy)
        )
    missing = [
        known_.name for known_ in hyperparameters.values() if known_.required and known_.name not in option.params
    ]
    for name in missing:
        what = f"`{option.name}` needs `{name}`, which has no default and is not in the space"
        remedy = "Give it a value, or a range, under `params`."
        problems.append(Problem(what, f"{place}.{option.name}.{name}", remedy))
    for name, distribution in option.params.items():
        dotted = f"{place}.{option.name}.{name}"
        if name not in hyperparameters:
            if not known[option.name].takes_others:
                remedy = did_you_mean(name, list(hyperparameters)) or "It has no hyperparameters."
                problems.append(Problem(f"`{option.name}` has no hyperparameter `{name}`", dotted, remedy))
            continue
        if f"path:{name}" in known[option.name].traits:
            problems += _check_paths(distribution, hyperparameters[name].default, dotted)
        if distribution.when and hyperparameters[name].required:
            what = f"`{option.name}` needs `{name}` always: it has no default"
            problems.append(Problem(what, dotted, "Leave out `when`."))
        if isinstance(distribution, FromData) and not known[option.name].is_module:
            problems.append(Problem(f"`{option.name}` is told about the table without being asked", dotted))
        wrong = [end for end in distribution.ends() if not hyperparameters[name].accepts(end)]
        if wrong:
            shown = ", ".join(f"`{end}`" for end in wrong)
            problems.append(Problem(f"found {shown}; allowed: {hyperparameters[name].describe()}", dotted))
    return problems


def _check_paths(distribution: Distribution, default: Scalar, where: str) -> Iterator[Problem]:
    """Yields what is not there of the files or folders that a hyperparameter names (the trait `path:NAME`)."""
    for end in distribution.ends():
        if end == default or not isinstance(end, str):
            continue
        if not Path(end).is_absolute():
            yield Problem(f"found `{end}`", where, f"Give the full path: {Path(end).resolve()}")
        elif not Path(end).exists():
            yield Problem(f"there is no `{end}`", where, "Name what is on this machine; nothing is downloaded.")
