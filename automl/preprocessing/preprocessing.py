"""The walk: fits the chosen steps on the training rows, one after the other, and repeats them on any other rows.

The rows travel as *blocks*: `numeric` (float64 with NaN: numbers, booleans, the parts of dates, what texts became),
`categorical` (strings until they are encoded, int64 codes from then on), and each of the schema's blocks by its name
(float32: images and sequences, centred and scaled by channel before all steps). What a stage reads and writes:

| stage      | reads       | writes                                                      |
| ---------- | ----------- | ----------------------------------------------------------- |
| tokenisation | texts     | a block `tokens` of each, if the network reads tokens       |
| vectorisation | texts    | numeric, if it does not                                     |
| cleaning   | all         | fewer training rows; nothing at prediction                  |
| imputation | numeric     | numeric, and categorical with the trait `fills_categories`  |
| encoding   | categorical | numeric, or categorical with the trait `categorical_output` |
| clipping   | numeric     | numeric                                                     |
| scaling    | numeric     | numeric                                                     |
| resampling | all         | other training rows; nothing at prediction                  |
| selection  | numeric     | numeric, fewer columns                                      |
| reduction  | numeric     | numeric, mixtures of the columns, mostly fewer              |

A step is what a registered factory `factory(task, *, hyperparameters)` returns: a scikit-learn transformer, an
imbalanced-learn sampler, something that is both (it drops training rows and fills others), or None for "leave it as it
is". What a step wants people to know it keeps in an attribute `notes_`.

Traits of a step:

* `fills_categories` (imputation): a missing category gets the column's most frequent one; otherwise "missing" is a
  level like any other.
* `categorical_output` (encoding): the result is codes from 1 on, 0 for unknown, to be embedded by the network; or it
  is a block of these and one of numbers.
* `synthesises_numeric` (resampling): makes up rows of numbers, so that no categorical column may be left.
* `picks_rows`, `synthesises_mixed` (resampling): repeats or leaves out rows, or makes up rows of numbers and codes;
  works with whatever columns there are.
* `columns_only` (resampling): does not make up cells of images and sequences. None makes up words, so that what makes
  up rows does not go with networks that read texts.
* `image`, `sequence` (reduction): reads blocks of these kinds, each by itself, and writes numeric columns.
* `takes_seconds`: however small the table is.
* `classification` (cleaning, reduction): needs classes to learn from, so that the target must not be a number.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.impute import SimpleImputer

from automl.array_column import unpack
from automl.components import STAGES, Component, catalogue
from automl.errors import ConfigError, DataError, Problem, did_you_mean
from automl.preprocessing import (  # noqa: F401  register
    cleaning,
    clipping,
    encoding,
    imputation,
    reduction,
    resampling,
    scaling,
    selection,
    tokenisation,
    vectorisation,
)
from automl.preprocessing.baseline import BaselineScaling
from automl.preprocessing.channels import ChannelScaling
from automl.preprocessing.prefix_cache import PrefixCache
from automl.preprocessing.saving import read, write
from automl.values import (
    BlockSpec,
    Choice,
    ColumnKind,
    Fold,
    InputSpec,
    Part,
    Schema,
    ShardedPart,
    Shards,
    Step,
    Task,
)

Blocks = dict[str, NDArray[Any]]

NUMERIC, CATEGORICAL, TOKENS, DOMAIN = "numeric", "categorical", "tokens", "domain"

#: The level that a missing category is.
MISSING = "<missing>"

#: Numbers are cut here on their way in, so that the eighth power still is a float64: regressions go that far.
MAX_INPUT = 1e30

#: Numbers are cut here on their way out, so that a network may square them and add up a million of them in float32.
MAX_OUTPUT = 1e15

#: Rows of the table that are put into a block at a time.
GATHERED_ROWS = 4096

#: Into how many bins numeric columns are cut, as far as there are 30 training rows for each of a column's. A network
#: computes with all of them in every step, so columns of a wide table have fewer, but not less than eight.
MAX_BINS, MAX_TOTAL_BINS, MIN_BINS = 48, 2048, 8
ROWS_PER_BIN = 30
MAX_BINNED_ROWS = 4096

#: Training rows of a domain below which it is as good as unknown.
MIN_DOMAIN_ROWS = 2

#: What runs where the steps do not say otherwise: no network takes missing numbers or strings.
NEEDED = {"imputation": Choice("median"), "encoding": Choice("ordinal")}

#: Stages that say how texts are read, before all others, and what they do where the steps do not say.
READING = {"tokenisation": Choice("hashed_words"), "vectorisation": Choice("directions")}

#: Stages that must have run before a stage.
BEFORE = {"resampling": ("imputation", "encoding"), "selection": ("imputation",), "reduction": ("imputation",)}

#: Warnings while fitting that tell of what is intended, or of columns without variance and tables of a few rows.
EXPECTED_WARNINGS = (
    r"n_quantiles .* is greater than the total number of samples",
    r"\[IterativeImputer\] Early stopping criterion not reached",
    r"Number of distinct clusters",
    r"(invalid value|divide by zero) encountered in",
    r"Degrees of freedom <= 0",
    r"FastICA did not converge",
    r"Stochastic Optimizer: Maximum iterations",
)


@dataclass(frozen=True, slots=True)
class FittedStep:
    """A fitted transformer with the blocks that it reads and writes."""

    source: str
    destination: str
    transformer: Any

    def apply(self, blocks: Blocks) -> Blocks:
        """Returns the blocks with the transformer's result in place of what it read."""
        return self.put(blocks, self.transformer.transform(blocks[self.source])) if self.source in blocks else blocks

    def put(self, blocks: Blocks, result: NDArray[Any] | Blocks) -> Blocks:
        """Returns the blocks with `result` in place of the source; a block without columns is absent."""
        kept = {name: block for name, block in blocks.items() if name != self.source}
        for name, made in (result if isinstance(result, dict) else {self.destination: result}).items():
            if made.shape[1]:
                kept[name] = np.hstack([kept[name], made]) if name in kept else made
        return kept


@dataclass(frozen=True, slots=True)
class _Resampler:
    """A sampler, the number of fitted steps that it comes after, and the blocks that it looks at."""

    n_before: int
    sampler: Any
    seen: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is on its way through the steps.

    Attributes:
        train, target: Training rows, some of which steps may drop, repeat or make up.
        val: Rows that are only transformed; None where there are none.
    """

    train: Blocks
    target: NDArray[Any]
    val: Blocks | None


class Preprocessing:
    """The steps of a configuration, to be fitted on the training rows of one fold.

    Where the steps lack an imputation, `median` runs first, or after a cleaning that does; where they lack an
    encoding, `ordinal` runs after the imputation. Dates and texts are read before all steps: a date becomes its days
    since 1970, year, month, day of the month, day of the week and hour; a text what the stage `tokenisation` makes of
    it for networks that read tokens, and what `vectorisation` makes of it for others.

    Args:
        steps: In the order in which they run.
        schema: Of the canonical frame: numbers and booleans as float64, dates as datetime64, the others as strings.
        seed: Of everything that is drawn at random.
        quantiles: Whether the network is told the quantiles of numeric columns.
        tokens: Whether the network reads texts as tokens, instead of seeing numbers.
        domains: Whether something is made of the rows' domains, whose codes are a block then.

    Attributes:
        inputs: What a network is told, known after fitting.
        notes: Sentences about what fitting did to rows and columns.

    Raises:
        ConfigError: The steps cannot work together on such a table.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        schema: Schema,
        *,
        seed: int,
        quantiles: bool = False,
        tokens: bool = False,
        domains: bool = False,
    ) -> None:
        problems = self.check([(step.stage, [step.choice.name]) for step in steps], schema, tokens=tokens)
        if problems:
            raise ConfigError(problems)
        self.steps = _complete([step for step in steps if step.stage not in READING])
        stage = "tokenisation" if tokens else "vectorisation"
        self.reading = next((step for step in steps if step.stage == stage), Step(stage, READING[stage]))
        self.schema = schema
        self.seed = seed
        self.quantiles = quantiles
        self.tokens = tokens and bool(schema.names(ColumnKind.TEXT))
        self.domains = domains and bool(schema.names(ColumnKind.DOMAIN))
        self.inputs = InputSpec({})
        self.notes: tuple[str, ...] = ()
        self._fitted: list[FittedStep] = []
        self._resamplers: list[_Resampler] = []
        self._cardinalities: tuple[int, ...] = ()
        self._rest: Callable[[], Iterator[Blocks]] | None = None

    @staticmethod
    def check(
        stages: Sequence[tuple[str, Sequence[str]]],
        schema: Schema,
        *,
        where: str = "preprocessing",
        tokens: bool = False,
    ) -> list[Problem]:
        """Returns what cannot work, so that it is told before the first trial.

        Args:
            stages: (stage, names of its options) in the order in which they would run.
            schema: Of the table.
            where: Dotted path of the stages, for the problems' places.
            tokens: Whether a network reads texts.
        """
        return list(_problems(stages, schema, where, tokens))

    @property
    def packages(self) -> frozenset[str]:
        """The packages that `transform` needs beside those of every model; a transformer tells its `packages`."""
        return frozenset(name for step in self._fitted for name in getattr(step.transformer, "packages", ()))

    @property
    def baseline(self) -> BaselineScaling | None:
        """What tells level and scale of each row; None before fitting, and where there is no baseline."""
        fitted = (step.transformer for step in self._fitted)
        return next((each for each in fitted if isinstance(each, BaselineScaling)), None)

    def fit_resample(self, features: pd.DataFrame, target: NDArray[Any]) -> tuple[Blocks, NDArray[Any]]:
        """Fits all steps on training rows, and returns these as a network takes them.

        Args:
            features: Canonical frame of the training rows and of no others; (rows, columns).
            target: As of `Dataset`.

        Returns:
            Block name -> array, as of `Part.inputs`; and the targets. Rows may have been dropped, repeated or made up.

        Raises:
            DataError: No row or no column is left to learn from.
        """
        walked = self._walk(features, target, None, None, None)
        return _finish(walked.train), walked.target

    def fit_fold(
        self, features: pd.DataFrame, target: NDArray[Any], fold: Fold, cache: PrefixCache | None = None
    ) -> tuple[Part, Part]:
        """Fits all steps on a fold's training rows, and returns these and its validation rows as a network takes them.

        The same as `fit_resample` of the one and `transform` of the others, bit for bit, with or without a cache.

        Args:
            features: Canonical frame of the fold's rows and others, of which nothing is seen (to cut the rows out
                before would cost a copy of the table); (rows, columns).
            target: As of `Dataset`.
            cache: Of these rows and this fold: the longest fitted beginning in it is where this begins.

        Raises:
            DataError: No row or no column is left to learn from.
        """
        walked = self._walk(features, target, fold.train, fold.val, cache)
        train, y, val = walked.train, walked.target, walked.val
        del walked  # each block is let go as soon as there is what a network takes
        val = self.transform(features, fold.val) if val is None else _finish(val)
        return Part(_finish(train), y), Part(val, target[fold.val])

    def fit_shards(self, shards: Shards, fold: Fold) -> tuple[ShardedPart, ShardedPart]:
        """Fits all steps on a sample of a fold's training rows, and returns all its rows as a network takes them.

        A step with `partial_fit` sees all training rows. Rows of the sample come out as `fit_resample` leaves them, the
        other training rows as `transform` does and resampled shard by shard, the validation rows as `transform` does.

        Args:
            shards: Of the search part.
            fold: Numbers of its rows.

        Raises:
            DataError: No row or no column is left to learn from.
        """

        features, target = shards.sample(fold.train)
        left = fold.train[len(target) :]  # a sample is the first rows
        rest = shards.holding(left) if len(left) else []
        of_val = shards.holding(fold.val)

        def training_rows(shard: int) -> tuple[Blocks, NDArray[Any]]:
            rows = shards.within(shard, fold.train)
            y = shards.target[shards.starts[shard] + rows]
            return self._resampled(_blocks(shards.shard(shard), self.schema, rows, self.domains), y)

        def train_piece(number: int) -> Part:
            if number == 0:
                return sample
            blocks, y = training_rows(rest[number - 1])
            return Part(_finish(blocks), y)

        def val_piece(number: int) -> Part:
            shard = of_val[number]
            rows = shards.within(shard, fold.val)
            return Part(self.transform(shards.shard(shard), rows), shards.target[shards.starts[shard] + rows])

        self._rest = lambda: (training_rows(shard)[0] for shard in rest)
        walked = self._walk(features, target, None, None, None)
        self._rest = None
        sample = Part(_finish(walked.train), walked.target)
        self.notes = (f"fitted on {len(target):,} of {len(fold.train):,} training rows, drawn at random", *self.notes)
        growth = len(sample.target) / len(target)
        sizes = (len(sample.target), *(round(growth * len(shards.within(shard, left))) for shard in rest))
        val_sizes = tuple(len(shards.within(shard, fold.val)) for shard in of_val)
        return (
            ShardedPart(shards.target[fold.train], sizes, train_piece),
            ShardedPart(shards.target[fold.val], val_sizes, val_piece),
        )

    def transform(self, features: pd.DataFrame, rows: NDArray[np.int64] | None = None) -> Blocks:
        """Returns any rows as a network takes them, neither their number nor their order changed.

        Args:
            features: Canonical frame; (rows, columns).
            rows: Positions of the rows wanted, in this order; None: all.

        Returns:
            Block name -> array, as of `Part.inputs`.
        """
        if len(features if rows is None else rows) == 0:
            return {name: np.empty((0, *b.shape), _DTYPES[b.kind]) for name, b in self.inputs.blocks.items()}
        return _finish(_apply(self._fitted, _blocks(features, self.schema, rows, self.domains)))

    def save(self, path: Path) -> None:
        """Writes everything that `transform` needs to one skops file: no code, and no training rows."""
        document = {
            "steps": [
                {"stage": step.stage, "name": step.choice.name, "params": dict(step.choice.params)}
                for step in (self.reading, *self.steps)
            ],
            "seed": self.seed,
            "inputs": self.inputs.to_json(),
            "notes": list(self.notes),
            "fitted": self._fitted_document(),
        }
        write(document, path)

    @classmethod
    def load(cls, path: Path, schema: Schema) -> Preprocessing:
        """Returns what was saved, ready to `transform`.

        Raises:
            RefusedError: The file is damaged, or holds types that are not trusted; nothing of it was built.
        """
        document = read(path)
        steps = [Step(step["stage"], Choice(step["name"], step["params"])) for step in document["steps"]]
        loaded = cls(steps, schema, seed=document["seed"])
        loaded.inputs = InputSpec.from_json(document["inputs"])
        loaded.domains = DOMAIN in loaded.inputs.blocks
        loaded.notes = tuple(document["notes"])
        loaded._fitted = [FittedStep(**step) for step in document["fitted"]]
        return loaded

    def _walk(
        self,
        features: pd.DataFrame,
        target: NDArray[Any],
        train: NDArray[np.int64] | None,
        val: NDArray[np.int64] | None,
        cache: PrefixCache | None,
    ) -> Rows:
        """Returns the rows after all steps, which are fitted then.

        Args:
            train: Positions of the training rows; None for all.
            val: Positions of rows that are transformed along; None for none.
        """
        self._fitted, self._resamplers, self._cardinalities, self.notes = [], [], (), ()
        n_done, rows = self._resume(cache) if cache else (0, None)
        since = time.perf_counter()
        with _expected_warnings():
            if rows is None:
                rows = self._begin(features, target, train, val)
            while True:
                if cache and self._keep(cache, n_done, rows, time.perf_counter() - since):
                    since = time.perf_counter()
                if n_done == len(self.steps):
                    break
                rows = self._advance(self.steps[n_done], rows)
                n_done += 1
        n_codes = {
            step.destination: len(step.transformer.levels_[0]) if step.source == DOMAIN else step.transformer.n_codes_
            for step in self._fitted
            if step.source == DOMAIN or step.destination.startswith(TOKENS)
        }
        self.inputs = _describe(rows.train, self.schema, self._cardinalities, self.quantiles, n_codes)
        return rows

    def _resume(self, cache: PrefixCache) -> tuple[int, Rows | None]:
        """Returns how many steps are done according to the cache, and the rows after them; None if not even begun."""
        for n_done in range(len(self.steps), -1, -1):
            found = cache.load(self._until(n_done), self.seed)
            if found is not None:
                document, arrays = found
                self._fitted = [FittedStep(**step) for step in document["fitted"]]
                self._cardinalities, self.notes = tuple(document["cardinalities"]), tuple(document["notes"])
                train, val = (
                    {name.removeprefix(part): arrays[name] for name in arrays if name.startswith(part)}
                    for part in ("train ", "val ")
                )
                return n_done, Rows(train, arrays["target"], val)
        return 0, None

    def _keep(self, cache: PrefixCache, n_done: int, rows: Rows, seconds: float) -> bool:
        """Hands what there is after some steps to the cache; returns whether it is there now."""
        if rows.val is None:
            return False
        document = {
            "fitted": self._fitted_document(),
            "cardinalities": list(self._cardinalities),
            "notes": list(self.notes),
        }
        arrays = {"target": rows.target}
        arrays |= {f"train {name}": block for name, block in rows.train.items()}
        arrays |= {f"val {name}": block for name, block in rows.val.items()}
        return cache.store(self._until(n_done), self.seed, document, arrays, seconds)

    def _until(self, n_done: int) -> list[Step]:
        """Returns what names the rows after some steps: these, and how texts and domains are read."""
        reading = [self.reading] if self.schema.names(ColumnKind.TEXT) else []
        domains = [Step(DOMAIN, Choice(TOKENS))] if self.domains else []
        return [*reading, *domains, *self.steps[:n_done]]

    def _fitted_document(self) -> list[dict[str, Any]]:
        return [
            {"source": step.source, "destination": step.destination, "transformer": step.transformer}
            for step in self._fitted
        ]

    def _begin(
        self,
        features: pd.DataFrame,
        target: NDArray[Any],
        train: NDArray[np.int64] | None,
        val: NDArray[np.int64] | None,
    ) -> Rows:
        """Returns the rows as blocks that any step can take, and notes what was done to that end."""
        target = target if train is None else target[train]
        if len(target) == 0:
            raise DataError("there are no training rows")
        blocks = _blocks(features, self.schema, train, self.domains)
        if self.domains:
            codes = encoding.Levels(min_frequency=MIN_DOMAIN_ROWS)
            blocks = self._fit(FittedStep(DOMAIN, DOMAIN, codes), blocks, target)
        for number, name in enumerate(self.schema.names(ColumnKind.TEXT), start=1):
            choice = self.reading.choice
            component = catalogue(self.reading.stage)[choice.name]
            reader = _seeded(component.factory(self.schema.target.task, **choice.params), self.seed)
            if self.tokens:
                tokens = f"{TOKENS}_{number}" if number > 1 else TOKENS
                blocks = self._fit(FittedStep(f"text {name}", tokens, reader), blocks, target)
                self.notes += (f"text `{name}` became {blocks[tokens].shape[1]} tokens",)
                continue
            n_before = _n_columns(blocks)[NUMERIC]
            blocks = self._fit(FittedStep(f"text {name}", NUMERIC, reader), blocks, target)
            self.notes += (f"text `{name}` became {_n_columns(blocks)[NUMERIC] - n_before} numeric columns",)
        for block in self.schema.blocks:
            is_baseline = block.kind is ColumnKind.BASELINE
            channels = BaselineScaling() if is_baseline else ChannelScaling(sequence=block.kind is ColumnKind.SEQUENCE)
            step = FittedStep(block.name, block.name, channels)
            blocks = self._fit(step, blocks, target)
        empty = imputation.EmptyColumns()
        blocks = self._fit(FittedStep(NUMERIC, NUMERIC, empty), blocks, target)
        self.notes += tuple(getattr(empty, "notes_", ()))
        # No step is made for no rows; `transform` knows what to make of them.
        has_val = val is not None and len(val) > 0
        val_blocks = _apply(self._fitted, _blocks(features, self.schema, val, self.domains)) if has_val else None
        return Rows(blocks, target, val_blocks)

    def _advance(self, step: Step, rows: Rows) -> Rows:
        """Returns the rows after one more step, and notes what it did."""
        n_before, n_fitted = _n_columns(rows.train), len(self._fitted)
        blocks, target, said = self._run(step, rows.train, rows.target)
        n_after = _n_columns(blocks)
        if n_before != n_after:
            said.append(f"{_tell(n_before)} became {_tell(n_after)}")
        self.notes += tuple(f"{step.stage} `{step.choice.name}`: {sentence}" for sentence in said)
        return Rows(blocks, target, None if rows.val is None else _apply(self._fitted[n_fitted:], rows.val))

    def _learned(self, target: NDArray[Any]) -> NDArray[Any]:
        """Returns the targets as steps learn from them: one target as it is, several as numbers side by side.

        Values are standardised, classes become a column each, or one of two; what is missing is the column's mean.
        """
        if not self.schema.target.parts:
            return target
        columns: list[NDArray[np.float64]] = []
        for part, y in zip(self.schema.target.parts, target.T, strict=True):
            if part.task is Task.MULTICLASS:
                classes = (y[:, None] == np.arange(len(part.classes))).astype(np.float64)
                columns += list(np.where(np.isnan(y)[:, None], np.nan, classes).T)
            else:
                columns.append(y if part.task is Task.BINARY else (y - np.nanmean(y)) / (np.nanstd(y) or 1.0))
        found = np.column_stack(columns)
        return np.where(np.isnan(found), np.nan_to_num(np.nanmean(found, axis=0)), found)

    def _run(self, step: Step, blocks: Blocks, target: NDArray[Any]) -> tuple[Blocks, NDArray[Any], list[str]]:
        """Returns blocks and targets after a step that is fitted on them, and what the step has to tell."""
        component = catalogue(step.stage)[step.choice.name]
        built = component.factory(self.schema.target.task, **step.choice.params)
        if built is None:
            return blocks, target, []
        estimator, notes = _seeded(built, self.seed), []
        if step.stage == "resampling" and len(np.unique(target)) < 2:
            return blocks, target, ["the training rows have one class only and are left as they are"]
        if hasattr(estimator, "fit_resample"):
            before = target
            # Rows of other words are not equal; that is all that codes of words can tell.
            words = [name for name in blocks if name.startswith(TOKENS)] if step.stage == "cleaning" else []
            whole = (NUMERIC, *(block.name for block in self.schema.blocks), *words, CATEGORICAL)
            seen = (NUMERIC,) if step.stage == "imputation" else whole
            self._resamplers.append(_Resampler(len(self._fitted), clone(estimator), seen))
            blocks, target = _resample(estimator, blocks, target, seen, self._learned(target))
            if self.schema.target.task.is_classification and len(before) != len(target):
                notes.append(f"class counts {self._counts(before)} became {self._counts(target)}")
        if hasattr(estimator, "transform"):
            sources = self._sources(component)
            for source in sources:
                destination = source if "categorical_output" in component.traits else NUMERIC
                transformer = estimator if len(sources) == 1 else clone(estimator)
                blocks = self._fit(FittedStep(source, destination, transformer), blocks, target)
            if "categorical_output" in component.traits and CATEGORICAL in blocks:
                # Now, while all rows are there: a code that resampling leaves out is met again at prediction.
                self._cardinalities = tuple((blocks[CATEGORICAL].max(axis=0) + 1).tolist())
        if "fills_categories" in component.traits:
            filler = SimpleImputer(strategy="most_frequent", missing_values=MISSING, keep_empty_features=True)
            blocks = self._fit(FittedStep(CATEGORICAL, CATEGORICAL, filler), blocks, target)
        return blocks, target, [*notes, *getattr(estimator, "notes_", ())]

    def _sources(self, component: Component) -> list[str]:
        """Returns the blocks that a transformer reads, each by itself."""
        kinds = component.traits & {ColumnKind.IMAGE, ColumnKind.SEQUENCE}
        if kinds:
            return [block.name for block in self.schema.blocks if block.kind in kinds]
        return [CATEGORICAL if component.kind == "encoding" else NUMERIC]

    def _fit(self, step: FittedStep, blocks: Blocks, target: NDArray[Any]) -> Blocks:
        """Returns the blocks after a transformer that is fitted on them and remembered."""
        if step.source not in blocks:
            return blocks
        self._fitted.append(step)
        # Not fit, then transform: a target encoding of the training rows is another one than that of new rows. A
        # sampler that transforms as well is fitted by now.
        if hasattr(step.transformer, "fit_resample"):
            return step.apply(blocks)
        if self._rest and hasattr(step.transformer, "partial_fit"):
            return self._fit_in_parts(step, blocks)
        return step.put(blocks, step.transformer.fit_transform(blocks[step.source], self._learned(target)))

    def _fit_in_parts(self, step: FittedStep, blocks: Blocks) -> Blocks:
        """Returns the blocks after a transformer that is fitted on them and on all other training rows."""
        assert self._rest is not None
        self._fitted.pop()  # until it is fitted, other rows come as far as it
        step.transformer.partial_fit(blocks[step.source])
        for more in self._rest():
            step.transformer.partial_fit(more[step.source])
        self._fitted.append(step)
        self.notes += (f"`{type(step.transformer).__name__}` was fitted on all training rows, part by part",)
        return step.apply(blocks)

    def _resampled(self, blocks: Blocks, target: NDArray[Any]) -> tuple[Blocks, NDArray[Any]]:
        """Returns training rows that were not fitted on after all steps, those that resample among them."""
        n_done = 0
        for resampler in self._resamplers:
            blocks, n_done = _apply(self._fitted[n_done : resampler.n_before], blocks), resampler.n_before
            if self.schema.target.parts or len(np.unique(target)) > 1:
                blocks, target = _resample(resampler.sampler, blocks, target, resampler.seen, self._learned(target))
        return _apply(self._fitted[n_done:], blocks), target

    def _counts(self, target: NDArray[np.int64]) -> str:
        """Returns how many rows each class has, the classes by name."""
        counts = np.bincount(target, minlength=len(self.schema.target.classes))
        return ", ".join(f"{name}: {count}" for name, count in zip(self.schema.target.classes, counts, strict=True))


# --- what cannot work --------------------------------------------------------------------------------------------


def _problems(
    stages: Sequence[tuple[str, Sequence[str]]], schema: Schema, where: str, tokens: bool
) -> Iterator[Problem]:
    names = [stage for stage, _ in stages]
    options: dict[str, list[Component]] = {}
    for position, (stage, chosen) in enumerate(stages):
        place = f"{where}.{position}"
        if stage not in STAGES:
            yield Problem(f"unknown stage `{stage}`", f"{place}.stage", did_you_mean(stage, STAGES))
            continue
        if stage in names[:position]:
            yield Problem(f"the stage `{stage}` is there twice", f"{place}.stage", "Put the options into one stage.")
        if stage in READING and any(name not in READING for name in names[:position]):
            yield Problem(f"the stage `{stage}` runs before all others", f"{place}.stage", "Write it above them.")
        for missing in (name for name in BEFORE.get(stage, ()) if name in names[position:]):
            yield Problem(
                f"the stage `{stage}` runs before `{missing}`", f"{place}.stage", f"Write `{missing}` above `{stage}`."
            )
        known = catalogue(stage)
        for index, name in enumerate(chosen):
            if name not in known:
                message, remedy = f"unknown {stage} `{name}`", did_you_mean(name, known.names())
                yield Problem(message, f"{place}.options.{index}", remedy)
        options.setdefault(stage, [known[name] for name in chosen if name in known])
    place = f"{where}.{names.index('resampling')}" if "resampling" in options else where
    yield from _resampling_problems(options, schema, place, tokens)
    if not schema.target.task.is_classification:
        found = "there are several targets" if schema.target.parts else f"`{schema.target.name}` is a number"
        for stage, components in options.items():
            for component in (component for component in components if "classification" in component.traits):
                yield Problem(
                    f"the {stage} `{component.name}` learns from classes, and {found}",
                    f"{where}.{names.index(stage)}",
                    "Leave it out.",
                )
    fillers = [c.name for c in options.get("imputation", ()) if "fills_categories" in c.traits]
    if fillers and schema.names(ColumnKind.CATEGORICAL) and "encoding" in names[: names.index("imputation")]:
        yield Problem(
            f"the imputation `{fillers[0]}` would fill in categories, which are encoded before it",
            f"{where}.{names.index('imputation')}.stage",
            "Write `imputation` above `encoding`.",
        )


def _resampling_problems(
    options: Mapping[str, list[Component]], schema: Schema, place: str, tokens: bool
) -> Iterator[Problem]:
    resamplers = [component for component in options.get("resampling", ()) if component.name != "none"]
    if resamplers and not schema.target.task.is_classification:
        found = "there are several targets" if schema.target.parts else f"`{schema.target.name}` is a number"
        yield Problem(
            f"the resampling `{resamplers[0].name}` evens out the classes of a target, and {found}",
            place,
            "Leave the stage out.",
        )
    left = schema.names(ColumnKind.CATEGORICAL)
    encoders = options.get("encoding") or [catalogue("encoding")[NEEDED["encoding"].name]]
    keeping = [component.name for component in encoders if "categorical_output" in component.traits]
    for resampler in resamplers:
        if "synthesises_numeric" in resampler.traits and keeping and left:
            yield Problem(
                f"the resampling `{resampler.name}` makes up numbers only, and the encoding `{keeping[0]}` leaves "
                f"categorical columns ({_listed(left)})",
                place,
                "Resample with `smotenc`, or encode with `onehot` or `target` only.",
            )
        if "columns_only" in resampler.traits and schema.blocks:
            yield Problem(
                f"the resampling `{resampler.name}` makes up columns only, and the table has "
                f"{_listed([block.name for block in schema.blocks])}, an image or a sequence",
                place,
                "Leave it out, or resample with `random_over`, which repeats rows as they are.",
            )
        if tokens and resampler.traits & {"synthesises_numeric", "synthesises_mixed"} and schema.names(ColumnKind.TEXT):
            yield Problem(
                f"the resampling `{resampler.name}` makes up rows, but no words for networks that read texts "
                f"({_listed(schema.names(ColumnKind.TEXT))})",
                place,
                "Resample with `random_over`, which repeats rows as they are, or leave out networks that read texts.",
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")


def _complete(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Returns the steps with those that no network can do without."""
    complete = list(steps)
    for stage, choice in NEEDED.items():
        stages = [step.stage for step in complete]
        if stage not in stages:
            # What is learned of the columns is learned of the rows that cleaning leaves.
            after = stages.index("imputation") + 1 if stage == "encoding" else int(stages[:1] == ["cleaning"])
            complete.insert(after, Step(stage, choice))
    return tuple(complete)


# --- from a frame to blocks, and from blocks to what a network takes -----------------------------------------------

#: By the kind of a block.
_DTYPES: dict[str, type[np.generic]] = {
    NUMERIC: np.float32,
    CATEGORICAL: np.int64,
    ColumnKind.IMAGE: np.float32,
    ColumnKind.SEQUENCE: np.float32,
    ColumnKind.BASELINE: np.float32,
    TOKENS: np.int64,
    DOMAIN: np.int64,
}


def _blocks(features: pd.DataFrame, schema: Schema, rows: NDArray[np.int64] | None, domains: bool = False) -> Blocks:
    """Returns rows of a canonical frame, the columns by what they are; texts one by one, shaped (rows,)."""
    plain = schema.names(ColumnKind.NUMERIC, ColumnKind.BOOLEAN)
    dates = schema.names(ColumnKind.DATETIME)
    words = [*schema.names(ColumnKind.CATEGORICAL), *schema.names(ColumnKind.TEXT)]
    columns = {name: features[name] if rows is None else features[name].iloc[rows] for name in (*dates, *words)}
    parts = [part for name in dates for part in _date_parts(columns[name])]
    categories = [_strings(columns[name], MISSING) for name in schema.names(ColumnKind.CATEGORICAL)]
    blocks: Blocks = {f"text {name}": _strings(columns[name], "") for name in schema.names(ColumnKind.TEXT)}
    if plain or parts:
        numbers = [features[name].to_numpy(np.float64) for name in plain]
        blocks[NUMERIC] = _matrix(numbers, parts, rows, len(features))
    if categories:
        blocks[CATEGORICAL] = np.column_stack(categories)
    if domains:
        (name,) = schema.names(ColumnKind.DOMAIN)
        blocks[DOMAIN] = _strings(features[name] if rows is None else features[name].iloc[rows], MISSING)[:, None]
    for block in schema.read_blocks:
        blocks[block.name] = unpack(features[block.name], block, rows)
    for block in (block for block in schema.blocks if block.reading is None):
        cells = [features[name].to_numpy(np.float64) for name in block.columns]
        # What is added to a target has its precision until the two are told apart.
        dtype = np.float64 if block.kind is ColumnKind.BASELINE else np.float32
        blocks[block.name] = _matrix(cells, [], rows, len(features), dtype).reshape(-1, *block.shape)
    return blocks


def _matrix(
    numbers: Sequence[NDArray[np.float64]],
    parts: Sequence[NDArray[np.float64]],
    rows: NDArray[np.int64] | None,
    n_rows: int,
    dtype: type[np.floating[Any]] = np.float64,
) -> NDArray[Any]:
    """Returns the rows of `numbers` beside `parts`, which hold these rows alone; NaN stays, infinity does not.

    The table is the largest thing in memory, so no second copy is made on the way: a few rows at a time are gathered,
    few enough for the processor's cache.
    """
    n_rows = n_rows if rows is None else len(rows)
    matrix = np.empty((n_rows, len(numbers) + len(parts)), dtype)
    for first in range(0, n_rows, GATHERED_ROWS):
        some = slice(first, first + GATHERED_ROWS)
        chosen = some if rows is None else rows[some]
        for position, number in enumerate(numbers):
            matrix[some, position] = number[chosen]
        for position, part in enumerate(parts, start=len(numbers)):
            matrix[some, position] = part[some]
        np.clip(matrix[some], -MAX_INPUT, MAX_INPUT, out=matrix[some])
    return matrix


def _date_parts(dates: pd.Series[Any]) -> list[NDArray[np.float64]]:
    """Returns days since 1970, year, month, day of the month, day of the week and hour, NaN where there is no date."""
    days = (dates.to_numpy("datetime64[us]") - np.datetime64(0, "us")) / np.timedelta64(1, "D")
    parts = (days, dates.dt.year, dates.dt.month, dates.dt.day, dates.dt.day_of_week, dates.dt.hour)
    return [np.asarray(part, dtype=np.float64) for part in parts]


def _strings(column: pd.Series[Any], missing: str) -> NDArray[np.object_]:
    return column.astype(object).where(column.notna(), missing).to_numpy(object)


def _describe(
    blocks: Blocks, schema: Schema, cardinalities: tuple[int, ...], quantiles: bool, n_codes: Mapping[str, int]
) -> InputSpec:
    """Returns what the blocks of the training rows look like, with or without quantiles of the numeric columns.

    Raises:
        DataError: No column is left.
    """
    specs = {}
    if NUMERIC in blocks:
        numbers = blocks[NUMERIC]
        specs[NUMERIC] = BlockSpec(NUMERIC, (numbers.shape[1],), (), _quantiles(numbers) if quantiles else ())
    if CATEGORICAL in blocks:
        specs[CATEGORICAL] = BlockSpec(CATEGORICAL, (blocks[CATEGORICAL].shape[1],), cardinalities)
    for block in (block for block in schema.blocks if block.name in blocks):  # a reduction makes columns of them
        shape = blocks[block.name].shape[1:]
        specs[block.name] = BlockSpec(block.kind.value, shape, masked=shape[0] > block.shape[0])
    for name in (name for name in blocks if name.startswith(TOKENS)):
        specs[name] = BlockSpec(TOKENS, blocks[name].shape[1:], (n_codes[name] + 1,))
    if not specs:
        raise DataError("preprocessing leaves no column to learn from", remedy="Look at what the columns hold.")
    if DOMAIN in blocks:
        specs[DOMAIN] = BlockSpec(DOMAIN, (1,), (n_codes[DOMAIN] + 1,))
    return InputSpec(specs)


def _quantiles(numbers: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Returns quantiles of each column that cut it into bins of equally many rows; (rows, columns).

    Equal ones are one, so that a column of few values has few. Where less than three are left, as of a column of two
    values, the column is one bin: from a standard deviation below its mean to one above. The lowest and the highest
    value are not among them: these are single rows.
    """
    n_rows, n_columns = numbers.shape
    if n_rows > MAX_BINNED_ROWS:
        numbers = numbers[np.random.default_rng(0).choice(n_rows, MAX_BINNED_ROWS, replace=False)]
    numbers = _finish({NUMERIC: numbers})[NUMERIC]  # float32, as the network sees them
    n_bins = min(MAX_BINS, max(MAX_TOTAL_BINS // n_columns, MIN_BINS), len(numbers) // ROWS_PER_BIN)
    levels = (np.arange(n_bins + 1) + 0.5) / (n_bins + 1)
    found = np.quantile(numbers, levels, axis=0).astype(np.float32)  # (levels, columns)
    return tuple(_distinct(column, edges) for column, edges in zip(numbers.T, found.T, strict=True))


def _distinct(column: NDArray[np.float32], quantiles: NDArray[np.float32]) -> tuple[float, ...]:
    """Returns a column's quantiles, (levels,), without those that are as good as equal."""
    edges = np.unique(quantiles).astype(np.float64)
    narrow = max(1e-6 * (edges[-1] - edges[0]), 1e-30)  # a network divides by the width of a bin, in float32
    edges = edges[np.diff(edges, prepend=-np.inf) > narrow]
    if len(edges) < 3:
        center, spread = float(column.mean(dtype=np.float64)), float(column.std(dtype=np.float64))
        spread = max(spread, 1e-6 * abs(center), 1e-30)
        return center - spread, center + spread
    return tuple(edges.tolist())


def _finish(blocks: Blocks) -> Blocks:
    """Returns the blocks in the types that networks take, without infinity."""
    finished: Blocks = {}
    if NUMERIC in blocks:
        numbers = np.empty(blocks[NUMERIC].shape, np.float32)
        finished[NUMERIC] = np.clip(blocks[NUMERIC], -MAX_OUTPUT, MAX_OUTPUT, out=numbers, casting="same_kind")
    if CATEGORICAL in blocks:
        finished[CATEGORICAL] = blocks[CATEGORICAL].astype(np.int64, copy=False)
    return finished | {name: block for name, block in blocks.items() if name not in finished}


# --- steps ---------------------------------------------------------------------------------------------------------


def _resample(
    sampler: Any, blocks: Blocks, target: NDArray[Any], names: tuple[str, ...], learned: NDArray[Any]
) -> tuple[Blocks, NDArray[Any]]:
    """Returns other rows of all blocks, and their targets; the sampler sees the named blocks side by side.

    Args:
        learned: The targets as the sampler sees them.
    """
    seen = {name: blocks[name] for name in names if name in blocks}
    if not seen:
        return blocks, target
    matrix = np.hstack([_as_numbers(block) for block in seen.values()])
    n_codes = seen[CATEGORICAL].shape[1] if CATEGORICAL in seen else 0  # they come last
    if "categorical_features" in sampler.get_params():
        sampler.set_params(categorical_features=tuple(range(matrix.shape[1] - n_codes, matrix.shape[1])))
    made, made_target = sampler.fit_resample(matrix, learned)
    positions = getattr(sampler, "sample_indices_", None)
    if positions is not None:
        return {name: block[positions] for name, block in blocks.items()}, target[positions]
    # Contiguous, as the cache can only keep what it can give back in the same order of memory.
    parts, first = {}, 0
    for name, block in seen.items():
        last = first + math.prod(block.shape[1:])
        part = made[:, first:last].reshape(-1, *block.shape[1:])
        parts[name] = np.rint(part).astype(np.int64) if name == CATEGORICAL else np.ascontiguousarray(part, block.dtype)
        first = last
    if DOMAIN in blocks:  # rows that are made up are of no domain; those that were there come before them
        codes, n_rows = np.zeros((len(made), 1), np.int64), len(matrix)
        if np.array_equal(made[:n_rows], matrix):
            codes[:n_rows] = blocks[DOMAIN]
        parts[DOMAIN] = codes
    return parts, made_target


def _as_numbers(block: NDArray[Any]) -> NDArray[np.float64]:
    """Returns a block as numbers, (rows, columns); strings as codes: that they are equal is all that these can tell."""
    if block.dtype == object:
        block = np.column_stack([pd.factorize(column)[0] for column in block.T])
    return block.reshape(len(block), -1).astype(np.float64)


def _apply(steps: Sequence[FittedStep], blocks: Blocks) -> Blocks:
    for step in steps:
        blocks = step.apply(blocks)
    return blocks


def _seeded(estimator: Any, seed: int) -> Any:
    """Returns the estimator with every `random_state` in it set."""
    names = [name for name in estimator.get_params() if name.rpartition("__")[2] == "random_state"]
    return estimator.set_params(**dict.fromkeys(names, seed))


def _n_columns(blocks: Blocks) -> dict[str, int]:
    return {name: blocks[name].shape[1] if name in blocks else 0 for name in (NUMERIC, CATEGORICAL)}


def _tell(n_columns: Mapping[str, int]) -> str:
    return (" and ".join(f"{n} {name}" for name, n in n_columns.items() if n) or "no") + " columns"


@contextmanager
def _expected_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield


def none(task: Task) -> None:
    """Leaves the rows and columns as they are."""


for _stage in ("cleaning", "clipping", "scaling", "resampling", "selection", "reduction"):
    catalogue(_stage).add("none", none)
