"""Reference models: what a search over networks has to beat, and what an ensemble may hold beside its networks.

They are scikit-learn's, fitted on a canonical frame. What is kept of one is arrays, saved as fitted preprocessing is.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin

from automl.array_column import ROWS, unpack
from automl.block_features import ConvolutionFeatures, SequenceSummaries
from automl.data.forecasting import cell_name, seasonal_name
from automl.errors import DataError, RefusedError
from automl.preprocessing.encoding import Levels, TextDirections
from automl.preprocessing.encoding import target as target_means
from automl.preprocessing.saving import read, write
from automl.values import Block, ColumnKind, Schema, Target, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What there is for every table, weakest first; `seasonal_naive` for forecasts alone.
NAMES = ("dummy", "seasonal_naive", "linear", "forest", "boosting", "shallow_boosting", "slow_boosting")

#: What there is beside them, and the kinds of blocks that it reads as they are; all others see cells as columns.
OF_BLOCKS = {
    "summaries": (ColumnKind.SEQUENCE,),
    "random_convolutions": (ColumnKind.SEQUENCE, ColumnKind.IMAGE),
}

#: What each is.
ABOUT = {
    "dummy": "class shares, the mean, or a quantile",
    "seasonal_naive": "of a forecast: the last value of the same season",
    "linear": "logistic, ridge or quantile regression over one-hot categories, numbers and TF-IDF weights of words",
    "forest": "extremely randomised trees (Geurts et al. 2006)",
    "boosting": "histogram gradient boosting, but for regularisation with its defaults",
    "shallow_boosting": "the same of small trees, for as many steps as it helps",
    "slow_boosting": "the same in many small steps",
    "summaries": "boosting that sees each channel of a sequence by mean, deviation, least, largest, slope and "
    "autocorrelation",
    "random_convolutions": "`linear` over what fixed convolutions find (as MiniRocket, Dempster et al. 2021, in "
    "sequences; random filters, Coates et al. 2011, in images), fitted on 10,000 rows at most",
}

#: Those that take small steps for as long as it helps.
PATIENT = ("shallow_boosting", "slow_boosting")

#: Levels of a column that histogram gradient boosting takes as categories, beside the one of all rare ones. A column of
#: more becomes means of the target. In small trees one of more than a few does already: they err otherwise than the
#: larger ones then, which an ensemble of both gains by.
MAX_LEVELS, FEW_LEVELS = 253, 8

#: Levels with fewer training rows share one column of a linear model, which has so many for others.
MIN_LEVEL_ROWS, MAX_LINEAR_LEVELS = 10, 100_000

#: Columns that words and pieces of words of a text fall into, for a linear model, and how long they are: words in a
#: row, letters.
TEXT_COLUMNS = {"word": (2**17, (1, 2)), "char_wb": (2**18, (2, 5))}

#: Letters of a column of texts up to which its pieces of words are used, too.
MAX_PIECED_CHARACTERS = 20_000_000

#: Training texts that a word or a piece occurs in, at least.
MIN_TEXTS = 2

#: What the weights of a text, whose squares add up to 1, are multiplied with: a penalty four times smaller.
TEXT_WEIGHT = 2.0

#: Steps of patient boosting: at most, where nothing says when to stop, before the first look at the clock (and between
#: two later ones at least), and without gain before its end.
MAX_ROUNDS, USUAL_ROUNDS, FIRST_ROUNDS, PATIENCE_ROUNDS = 2000, 200, 20, 40

#: For how many steps the small ones of patient boosting are meant; where there is time for fewer, they are larger, up
#: to this size.
SMALL_STEPS, LARGEST_STEP = 1000, 0.15

#: Trees of a forest, how many are grown between two looks at the clock, and leaves of each at most, about.
N_TREES, TREES_AT_ONCE, MAX_LEAVES = 100, 10, 5000

#: Rows and columns of a linear quantile regression, which is a linear program.
MAX_PROGRAM_ROWS, MAX_PROGRAM_COLUMNS = 5_000, 300

#: Columns that an image or a sequence in one column becomes at most, about.
MAX_ARRAY_COLUMNS = 1024

#: Rows that a linear model of what convolutions find is fitted on at most: each row has many numbers. Cells of an image
#: or a sequence that is read as it is, at most, about.
MAX_CONVOLVED_ROWS, MAX_CONVOLVED_CELLS = 10_000, 4096

#: Steps of a logistic regression.
MAX_STEPS = {"linear": 300, "random_convolutions": 100}

#: Inverse penalties of logistic regressions, from the strongest on, and the one where no other rows say which is best.
STRENGTHS = {"linear": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), "random_convolutions": (0.001, 0.01, 0.1, 1.0)}
USUAL_STRENGTH = {"linear": 1.0, "random_convolutions": 0.1}

#: Rows above which the penalty of a linear model is the usual one: it matters little there, and each fit takes long.
MAX_PENALISED_ROWS = 20_000

#: Numbers of a matrix that is looked at in the space of its rows, at most.
MAX_ROTATED = 50_000_000

#: The cells of blocks are cut here, as they are for networks.
MAX_CELL = 1e30

#: Rows that are predicted at a time.
PREDICTED_ROWS = 16_384

#: A matrix with a larger share of numbers that are not zero is quicker dense.
MAX_SPARSE_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Held:
    """Rows that a model is not fitted on, which say when it is good enough.

    Attributes:
        features: Canonical frame; (rows, columns).
        target: As of `Dataset`.
    """

    features: pd.DataFrame
    target: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is fitted of a single target, or of one of its quantiles.

    Attributes:
        matrix: From a canonical frame to what the estimator takes.
        estimator: A classifier of class positions, or a regressor.
    """

    matrix: FrameMatrix
    estimator: Any


class ReferenceModel:
    """A fitted reference model: one estimator of each target, and of each quantile of one.

    Args:
        name: One of `ABOUT`.
        schema: Of the frames that it predicts on.
        fitted: In the order of the targets, and of the quantiles of each.
    """

    def __init__(self, name: str, schema: Schema, fitted: Sequence[Fitted]) -> None:
        self.name = name
        self.schema = schema
        self.fitted = tuple(fitted)

    @classmethod
    def fit(
        cls,
        name: str,
        schema: Schema,
        features: pd.DataFrame,
        target: NDArray[Any],
        seed: int,
        *,
        held: Held | None = None,
        like: ReferenceModel | None = None,
        n_trees: int = N_TREES,
        stop_at: float = math.inf,
    ) -> ReferenceModel:
        """Returns a fitted model.

        Args:
            name: One of `ABOUT`.
            schema: Of the table.
            features: Canonical frame; (rows, columns).
            target: As of `Dataset`.
            seed: Of what is drawn at random.
            held: When patient boosting stops, and how strong the penalty of a logistic regression is; the others do not
                look at them.
            like: One fitted on other rows, of which patient boosting takes number and size of its steps, and a logistic
                regression the penalty.
            n_trees: Of a forest.
            stop_at: `time.monotonic()` after which no further tree is grown.

        Raises:
            DataError: No row has a value of one of several targets, or a linear program would be too large.
        """
        if name == "random_convolutions" and len(target) > MAX_CONVOLVED_ROWS:
            some = np.sort(np.random.default_rng(seed).choice(len(target), MAX_CONVOLVED_ROWS, replace=False))
            features, target = features.iloc[some], target[some]
        heads = list(enumerate(schema.target.heads))
        tasks = [(number, level) for number, head in heads for level in head.quantiles or (None,)]
        shared = _matrix(name, schema, 0, seed)
        # One matrix for all, unless it holds means of a target.
        several = bool(schema.target.parts)
        X = None
        if not (several and shared.needs_target(features)):
            X = shared.fit_transform(features, target if several else _relative(schema, features, target))
        fitted: list[Fitted] = []
        for number, level in tasks:
            rows, y = _known(schema, target, number)
            if not len(y):
                raise DataError("no training row has a value", where=f"`{schema.target.heads[number].name}`")
            y = _relative(schema, features if rows.all() else features[rows], y)
            seen = None
            if held is not None:
                held_rows, held_y = _known(schema, held.target, number)
                held_features = held.features if held_rows.all() else held.features[held_rows]
                seen = Held(held_features, _relative(schema, held_features, held_y))
            if X is None:
                matrix = _matrix(name, schema, number, seed)
                made = matrix.fit_transform(features[rows], y)
            else:
                matrix, made = shared, X if rows.all() else X[rows]
            share = time.monotonic() + (stop_at - time.monotonic()) / (len(tasks) - len(fitted))
            estimator = _estimated(
                name, schema.target.heads[number], matrix, made, y, seed,
                level=level, held=seen, like=like.fitted[len(fitted)].estimator if like else None,
                n_trees=n_trees, stop_at=share,
            )  # fmt: skip
            fitted.append(Fitted(matrix, estimator))
        return cls(name, schema, fitted)

    @property
    def n_rounds(self) -> int:
        """Steps of boosting, the mean over what is fitted; 0 for other models."""
        return round(float(np.mean([getattr(one.estimator, "n_rounds_", 0) for one in self.fitted])))

    def predictions(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """Returns what `Predictor.predictions` does; the probability of a class that was not seen is zero."""
        starts = range(0, max(len(features), 1), PREDICTED_ROWS)
        return np.concatenate([self._predictions(features.iloc[at : at + PREDICTED_ROWS]) for at in starts])

    def _predictions(self, features: pd.DataFrame) -> NDArray[np.float64]:
        X = {id(matrix): matrix.transform(features) for matrix in self._matrices()}
        waiting = iter(self.fitted)
        each = [_predictions(head, waiting, X) for head in self.schema.target.heads]
        if self.schema.baseline is not None:
            level, scale = (features[name].to_numpy() for name in self.schema.baseline)
            each = [(level + scale * one.T).T for one in each]  # of values, or of quantiles
        return np.column_stack(each) if self.schema.target.parts else each[0]

    def _matrices(self) -> list[FrameMatrix]:
        """Returns the different ones."""
        return list({id(one.matrix): one.matrix for one in self.fitted}.values())

    def save(self, path: Path) -> None:
        """Writes the model to one file: no code, and no training rows."""
        matrices = self._matrices()
        place = {id(matrix): number for number, matrix in enumerate(matrices)}
        fitted = [{"matrix": place[id(one.matrix)], "estimator": one.estimator} for one in self.fitted]
        write({"name": self.name, "matrices": matrices, "fitted": fitted}, path)

    @classmethod
    def load(cls, path: Path, schema: Schema) -> ReferenceModel:
        """Returns what was saved.

        Raises:
            RefusedError: The file is damaged, or holds types that are not trusted; nothing of it was built.
        """
        document = read(path, _allowed_types())
        if "fitted" in document:
            fitted = [Fitted(document["matrices"][one["matrix"]], one["estimator"]) for one in document["fitted"]]
        else:  # earlier documents have a single one
            fitted = [Fitted(document["matrix"], document["estimator"])]
        for estimator in (one.estimator for one in fitted):
            if isinstance(estimator, (BoostedTrees, Forest)) and not estimator.is_sound():
                raise RefusedError("holds trees whose branches lead nowhere", where=str(path))
        return cls(document["name"], schema, fitted)


def _known(schema: Schema, target: NDArray[Any], number: int) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Returns which rows have a value of one of the targets, (rows,), and the values."""
    if not schema.target.parts:
        return np.ones(len(target), dtype=bool), target
    y = target[:, number]
    rows = ~np.isnan(y)
    is_class = schema.target.heads[number].task.is_classification
    return rows, y[rows].astype(np.int64) if is_class else y[rows]


def _matrix(name: str, schema: Schema, number: int, seed: int) -> FrameMatrix:
    """Returns what makes a matrix for one of the targets, not fitted."""
    if name == "dummy":  # the mean needs no column
        return FrameMatrix(levels=[], numbers=[], dates=[], texts=[])
    if name == "seasonal_naive":
        target, forecast = schema.target.heads[number].name, schema.forecast
        season = seasonal_name(target)
        # A column that is alike in all rows is left out, and so the first step's cell of the window tells it.
        if forecast is not None and season not in {column.name for column in schema.used}:
            season = cell_name(target, 1 - forecast.season)
        return FrameMatrix(levels=[], numbers=[season], dates=[], texts=[], form="trees")
    max_levels = FEW_LEVELS if name == "shallow_boosting" else MAX_LEVELS
    form = "linear" if name in ("linear", "random_convolutions") else "trees"
    read = [block for block in schema.blocks if block.kind in OF_BLOCKS.get(name, ())]
    task = schema.target.heads[number].task
    return FrameMatrix.of(schema, task, form=form, max_levels=max_levels, seed=seed, read=read)


def _estimated(
    name: str,
    target: Target,
    matrix: FrameMatrix,
    X: Any,
    y: NDArray[Any],
    seed: int,
    *,
    level: float | None,
    held: Held | None,
    like: Any,
    n_trees: int,
    stop_at: float,
) -> Any:
    """Returns the estimator of a single target, or of the quantile of a level; `like` is one fitted before."""
    if target.task.is_classification and np.ptp(y) == 0:
        name = "dummy"  # a fold may have rows of one class only, of one of several targets
    estimator = _estimator(name, target.task, y, seed, level)
    if isinstance(estimator, Forest):
        estimator.set_params(n_trees=n_trees)
    if name in PATIENT:
        estimator.set_params(max_iter=USUAL_ROUNDS if held is None else MAX_ROUNDS)
    if name in PATIENT and isinstance(like, BoostedTrees):
        estimator.set_params(max_iter=like.n_rounds_, learning_rate=like.learning_rate_)
    if level is not None and name == "linear":
        X, y = _programmed(X, y, seed)
    if isinstance(estimator, BoostedTrees):
        estimator.set_params(n_categorical=len(matrix.coded_))
    if isinstance(estimator, BoostedTrees) and held is not None and name in PATIENT and len(held.target):
        return estimator.fit(X, y, matrix.transform(held.features), held.target, stop_at)
    if isinstance(estimator, (BoostedTrees, Forest)):
        return estimator.fit(X, y, stop_at=stop_at)
    if name in STRENGTHS and target.task.is_classification:
        seen = np.isin(held.target, y) if held is not None else np.empty(0, dtype=bool)
        if held is None or not seen.any() or len(y) > MAX_PENALISED_ROWS:
            return _penalised(estimator, X, y, X, y, (getattr(like, "C", USUAL_STRENGTH[name]),))
        X_val = matrix.transform(held.features)[seen]
        return _penalised(estimator, X, y, X_val, held.target[seen], STRENGTHS[name])
    return estimator.fit(X, y)


def _penalised(model: Any, X: Any, y: NDArray[Any], X_val: Any, y_val: NDArray[Any], strengths: Sequence[float]) -> Any:
    """Returns the logistic regression of the penalty that does best on other rows; steps end early where they are many.

    Of fewer rows than columns, the weights lie in the space of the rows, and are looked for there.

    Args:
        model: One that is not fitted.
        X, y: (rows, columns) and (rows,).
        X_val, y_val: The other rows, of classes that `y` has.
        strengths: Inverse penalties, from the strongest on.
    """
    from scipy.sparse import issparse
    from sklearn.exceptions import ConvergenceWarning

    axes = None
    if X.shape[0] < X.shape[1] and np.prod(X.shape) <= MAX_ROTATED:
        X = X.toarray() if issparse(X) else X
        axes = np.linalg.svd(X, full_matrices=False)[2]  # (rows, columns)
        X, X_val = X @ axes.T, X_val @ axes.T
    best, least = model, math.inf
    for strength in strengths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = deepcopy(model).set_params(C=strength).fit(X, y)
        told = model.predict_proba(X_val)[np.arange(len(y_val)), np.searchsorted(model.classes_, y_val)]
        loss = float(-np.log(np.maximum(told, 1e-15)).mean())
        if loss >= least:
            break
        best, least = model, loss
    if axes is not None:
        best.coef_, best.n_features_in_ = best.coef_ @ axes, axes.shape[1]
    return best


def _programmed(X: Any, y: NDArray[Any], seed: int) -> tuple[Any, NDArray[Any]]:
    """Returns the rows of which a linear program is made: a random part of many.

    Raises:
        DataError: It would have too many columns.
    """
    if X.shape[1] > MAX_PROGRAM_COLUMNS:
        raise DataError(f"a linear program of {X.shape[1]:,} columns is too large; at most {MAX_PROGRAM_COLUMNS:,}")
    rows = np.sort(np.random.default_rng(seed).permutation(len(y))[:MAX_PROGRAM_ROWS])
    return X[rows], y[rows]


def _predictions(target: Target, waiting: Iterator[Fitted], X: Mapping[int, Any]) -> NDArray[np.float64]:
    """Returns a single target's probabilities (rows, classes), values (rows,) or rising quantiles (rows, quantiles).

    Args:
        target: The target.
        waiting: What is fitted, from this target's on.
        X: What each matrix, by its id, makes of the rows.
    """
    if target.quantiles:
        fitted = islice(waiting, len(target.quantiles))
        return np.sort(np.column_stack([one.estimator.predict(X[id(one.matrix)]) for one in fitted]), axis=1)
    one = next(waiting)
    rows = X[id(one.matrix)]
    if target.task is Task.REGRESSION:
        values: NDArray[np.float64] = one.estimator.predict(rows)
        return values
    found = one.estimator.predict_proba(rows)
    probabilities = np.zeros((len(found), len(target.classes)))
    probabilities[:, one.estimator.classes_] = found
    return probabilities


def _relative(schema: Schema, features: pd.DataFrame, target: NDArray[Any]) -> NDArray[Any]:
    """Returns what is learned: the target, relative to its baseline where there is one; (rows,)."""
    if schema.baseline is None:
        return target
    level, scale = (features[name].to_numpy() for name in schema.baseline)
    relative: NDArray[np.float64] = (target - level) / scale
    return relative


class SeasonalNaive(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Says what the only column says, or 0 where it says nothing."""

    def fit(self, X: NDArray[np.float64], y: NDArray[Any]) -> SeasonalNaive:
        return self

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nan_to_num(X[:, 0], nan=0.0)


def _estimator(name: str, task: Task, target: NDArray[Any], seed: int, level: float | None) -> Any:
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.linear_model import LogisticRegression, QuantileRegressor, RidgeCV

    regression = not task.is_classification
    if level is not None and name == "dummy":
        return DummyRegressor(strategy="quantile", quantile=level)
    if level is not None and name == "linear":
        return QuantileRegressor(quantile=level, alpha=1e-3)
    if name == "dummy":
        return DummyRegressor() if regression else DummyClassifier(strategy="prior")
    if name == "seasonal_naive":
        return SeasonalNaive()
    if name in ("linear", "random_convolutions"):
        penalties = np.logspace(-2, 3, 6) if name == "linear" else np.logspace(0, 5, 6)
        return RidgeCV(penalties) if regression else LogisticRegression(max_iter=MAX_STEPS[name], warm_start=True)
    if name == "forest":
        return Forest(classification=not regression, random_state=seed)
    if name in PATIENT:
        is_shallow = name == "shallow_boosting"
        # Tried on 26 other tables: numbers are 1.2 % better off with leaves of few rows (RMSE), classes are not.
        usual = 20 if len(target) >= 3000 else 8
        return BoostedTrees(
            classification=not regression,
            quantile=level,
            learning_rate=0.08 if is_shallow else 0.04,
            max_leaf_nodes=8 if is_shallow else 31,
            min_samples_leaf=2 if regression else usual,
            l2_regularization=1.0,
            max_features=0.6,
            random_state=seed,
        )
    # Early stopping holds out a stratified part, which a class of one row does not allow.
    stops = regression or bool(np.bincount(target)[np.unique(target)].min() > 1)
    return BoostedTrees(
        classification=not regression,
        quantile=level,
        early_stopping=stops and len(target) >= 1000,
        # Without it, steps for a class of a few rows are unbounded: test log-loss 1.28 to 1.73, by the seed, where with
        # it 1.29.
        l2_regularization=1.0,
        random_state=seed,
    )


def _averaged(arrays: NDArray[np.float32], n_cells: int) -> NDArray[np.float32]:
    """Returns arrays (rows, channels, ...) of so many cells at most, about: neighbours become their mean."""
    n_rows, n_channels, *sides = arrays.shape
    size = math.ceil((math.prod(arrays.shape[1:]) / n_cells) ** (1 / len(sides)))
    if size <= 1:
        return arrays
    edges = [(0, -side % size) for side in sides]
    padded = np.pad(arrays, [(0, 0), (0, 0), *edges], constant_values=np.nan)
    cells = [part for side in padded.shape[2:] for part in (side // size, size)]
    axes = tuple(range(3, 3 + 2 * len(sides), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of nothing there is no mean
        found: NDArray[np.float32] = np.nanmean(padded.reshape(n_rows, n_channels, *cells), axis=axes)
    return found


def _allowed_types() -> frozenset[str]:
    """Returns the types that a saved reference model may hold beside those of preprocessing; the same care is due."""
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.linear_model import LogisticRegression, QuantileRegressor, RidgeCV

    ours = (FrameMatrix, BoostedTrees, Forest, HashedWords, SequenceSummaries, ConvolutionFeatures, SeasonalNaive)
    kinds = (*ours, LogisticRegression, RidgeCV, QuantileRegressor, DummyClassifier, DummyRegressor)
    return frozenset(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)


class FrameMatrix(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A canonical frame as one matrix: categories first, then numbers, truth values and dates as days, then texts.

    Args:
        levels, numbers, dates, texts: Names of the columns.
        arrays: Name of a packed column -> kind and shape of its block; they are averaged over neighbouring pixels or
            steps until a row is some 1,000 numbers.
        blocks: Sequences and images that are read as they are, each by `name`, `kind`, `columns` (none of a packed
            one) and `shape`; the cells of others are numbers.
        form: `linear`: numbers are filled in, told to be missing and standardised, categories are one-hot, texts
            TF-IDF weights of hashed words, blocks what fixed convolutions find. `trees`: missing numbers stay missing,
            categories are codes, texts their main directions, blocks summaries.
        task: Which means of the target are meant.
        max_levels: For trees, a column of more levels is not codes but means of the target, of a training row those of
            other rows (cross-fitted). Three other tables with such columns: errors 0.5 to 3 % smaller.
        seed: Of the directions, and of the cross-fitting.

    Attributes:
        coded_, averaged_: Columns of categories of the one kind and of the other.
    """

    blocks: Sequence[Mapping[str, Any]] = ()  # of models that were saved before there were any

    def __init__(
        self,
        *,
        levels: list[str],
        numbers: list[str],
        dates: list[str],
        texts: list[str],
        arrays: dict[str, tuple[str, list[int]]] | None = None,
        blocks: Sequence[Mapping[str, Any]] = (),
        form: str = "linear",
        task: str = Task.REGRESSION.value,
        max_levels: int = MAX_LEVELS,
        seed: int = 0,
    ) -> None:
        self.levels = levels
        self.numbers = numbers
        self.dates = dates
        self.texts = texts
        self.arrays = arrays
        self.blocks = blocks
        self.form = form
        self.task = task
        self.max_levels = max_levels
        self.seed = seed

    @classmethod
    def of(
        cls, schema: Schema, task: Task, *, form: str, max_levels: int, seed: int, read: Sequence[Block] = ()
    ) -> FrameMatrix:
        """Returns one for the columns of a table and the task of a single target, not fitted.

        Some blocks are read as they are.
        """
        numbers = schema.names(ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.IMAGE, ColumnKind.SEQUENCE)
        cells = {column for block in read for column in block.columns}
        return cls(
            levels=schema.names(ColumnKind.CATEGORICAL),
            numbers=[name for name in numbers if name not in cells],
            dates=schema.names(ColumnKind.DATETIME),
            texts=schema.names(ColumnKind.TEXT),
            arrays={b.name: (b.kind.value, list(b.shape)) for b in schema.read_blocks if b not in read},
            blocks=[
                {"name": b.name, "kind": b.kind.value, "columns": list(b.columns), "shape": list(b.shape)} for b in read
            ],
            form=form,
            task=(task if task.is_classification else Task.REGRESSION).value,
            max_levels=max_levels,
            seed=seed,
        )

    def needs_target(self, X: pd.DataFrame) -> bool:
        """Returns whether the matrix of such rows holds means of the target."""
        return self.form == "trees" and bool(self._of_many_levels(X))

    def fit(self, X: pd.DataFrame, y: NDArray[Any]) -> FrameMatrix:
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: pd.DataFrame, y: NDArray[Any]) -> Any:
        """Returns the matrix of the training rows; no mean of the target holds a row's own; (rows, columns)."""
        self.parts_ = {}
        self.averaged_ = self._of_many_levels(X) if self.form == "trees" else []
        self.coded_ = [name for name in self.levels if name not in self.averaged_]
        if self.coded_:
            self.parts_["levels"] = _levels(self.form).fit(self._words(X, self.coded_))
        means = None
        if self.averaged_:
            self.parts_["means"] = target_means(Task(self.task)).set_params(targetmeans__random_state=self.seed)
            means = self.parts_["means"].fit_transform(self._words(X, self.averaged_), y)
        if (self.numbers or self.dates or self.arrays) and self.form == "linear":
            self.parts_["numbers"] = _standardised().fit(self._values(X))
        for name in self.texts:
            words = HashedWords() if self.form == "linear" else TextDirections(random_state=self.seed)
            self.parts_[f"text {name}"] = words.fit(self._words(X, [name])[:, 0])
        for block in self.blocks:
            self.parts_[f"block {block['name']}"] = self._reading(block).fit(self._cells(X, block))
        return self._joined(X, means)

    def transform(self, X: pd.DataFrame) -> Any:
        """Returns the matrix, sparse if words or levels are; (rows, columns)."""
        means = self.parts_["means"].transform(self._words(X, self.averaged_)) if self.averaged_ else None
        return self._joined(X, means)

    def _joined(self, X: pd.DataFrame, means: NDArray[np.float64] | None) -> Any:
        from scipy.sparse import hstack, issparse

        found = []
        if self.coded_:
            codes = self.parts_["levels"].transform(self._words(X, self.coded_))
            found.append(codes if issparse(codes) else codes.astype(np.float64))
        if means is not None:
            found.append(means)
        if self.numbers or self.dates or self.arrays:
            values = self._values(X)
            found.append(self.parts_["numbers"].transform(values) if self.form == "linear" else values)
        found += [self.parts_[f"text {name}"].transform(self._words(X, [name])[:, 0]) for name in self.texts]
        found += [self.parts_[f"block {b['name']}"].transform(self._cells(X, b)) for b in self.blocks]
        if not found:
            return np.zeros((len(X), 1))
        if not any(map(issparse, found)):
            return np.hstack(found)
        joined = hstack(found, format="csr")
        return joined.toarray() if joined.nnz > MAX_SPARSE_SHARE * np.prod(joined.shape) else joined

    def _of_many_levels(self, X: pd.DataFrame) -> list[str]:
        """Returns the columns of categories with more levels than `max_levels`, of two rows at least."""
        if not self.levels:
            return []
        levels = Levels(min_frequency=2, max_categories=self.max_levels + 1).fit(self._words(X, self.levels)).levels_
        return [name for name, of in zip(self.levels, levels, strict=True) if len(of) > self.max_levels]

    def _values(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Returns numbers, dates, and what arrays hold; (rows, columns)."""
        numbers = [X[name].to_numpy(dtype=np.float64) for name in self.numbers]
        days = [(X[name].astype("int64") / 86_400e6).where(X[name].notna()).to_numpy() for name in self.dates]
        blocks = [
            Block(name, ColumnKind(kind), (), tuple(shape)) for name, (kind, shape) in (self.arrays or {}).items()
        ]
        arrays = [_averaged(unpack(X[block.name], block), MAX_ARRAY_COLUMNS) for block in blocks]
        arrays = [array.reshape(len(X), -1).astype(np.float64) for array in arrays]
        return np.column_stack([*numbers, *days, *arrays])

    def _reading(self, block: Mapping[str, Any]) -> Any:
        """Returns what reads a block, not fitted."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if self.form == "trees":
            return SequenceSummaries()
        convolutions = ConvolutionFeatures(sequence=block["kind"] == ColumnKind.SEQUENCE.value, random_state=self.seed)
        return make_pipeline(convolutions, StandardScaler())

    @staticmethod
    def _cells(X: pd.DataFrame, block: Mapping[str, Any]) -> NDArray[np.float32]:
        """Returns the rows of a block, averaged over neighbours where they are large; (rows, channels, ...)."""
        packed = Block(block["name"], ColumnKind(block["kind"]), (), tuple(block["shape"]))
        parts = []
        for first in range(0, max(len(X), 1), ROWS):  # large images do not fit into memory all at once
            rows = X.iloc[first : first + ROWS]
            if block["columns"]:
                cells = np.clip(rows[block["columns"]].to_numpy(np.float64), -MAX_CELL, MAX_CELL)
                arrays = cells.astype(np.float32).reshape(-1, *block["shape"])
            else:
                arrays = unpack(rows[block["name"]], packed)
            parts.append(_averaged(arrays, MAX_CONVOLVED_CELLS))
        return np.concatenate(parts)

    @staticmethod
    def _words(X: pd.DataFrame, names: list[str]) -> NDArray[np.object_]:
        """Returns columns of words, missing ones empty; (rows, columns)."""
        words: NDArray[np.object_] = X[names].astype(object).fillna("").to_numpy()
        return words


class HashedWords(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """TF-IDF weights of hashed words, pairs of words and pieces of words, of one text column.

    Hashed, so that a saved model holds no word of a training text. On 7,400 film reviews of a sentence, pieces take a
    logistic regression from 0.857 to 0.866 ROC AUC; of very long columns they are left out, for the time they take.

    Attributes:
        tfidf_: The weights of the words and pairs, and of the pieces where these are used.
        columns_: Of each, the columns that are kept: what occurs in one training text only tells nothing of others.
    """

    def fit(self, X: NDArray[np.object_], y: NDArray[Any] | None = None) -> HashedWords:
        from sklearn.feature_extraction.text import TfidfTransformer

        kinds = ["word", "char_wb"] if sum(map(len, X)) <= MAX_PIECED_CHARACTERS else ["word"]
        self.tfidf_, self.columns_ = {}, {}
        for kind in kinds:
            counts = self._counts(X, kind)
            n_texts = np.bincount(counts.indices, minlength=counts.shape[1])
            self.columns_[kind] = np.flatnonzero(
                n_texts >= min(MIN_TEXTS, n_texts.max())
            )  # there may be none that often
            self.tfidf_[kind] = TfidfTransformer(sublinear_tf=True).fit(counts[:, self.columns_[kind]])
        return self

    def transform(self, X: NDArray[np.object_]) -> Any:
        """Returns the weights of the texts X, shaped (rows,); sparse (rows, columns)."""
        from scipy.sparse import hstack

        found = [tfidf.transform(self._counts(X, kind)[:, self.columns_[kind]]) for kind, tfidf in self.tfidf_.items()]
        return hstack(found, format="csr") * TEXT_WEIGHT

    @staticmethod
    def _counts(X: NDArray[np.object_], kind: str) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        # Built anew each time: it learns nothing, and what is not saved need not be trusted.
        n_columns, lengths = TEXT_COLUMNS[kind]
        return HashingVectorizer(
            analyzer=kind, ngram_range=lengths, n_features=n_columns, alternate_sign=False, norm=None
        ).transform(X)


def _levels(form: str) -> Any:
    """Returns what codes categories; levels of a single row are not kept, here as elsewhere."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    if form == "linear":
        levels = Levels(min_frequency=MIN_LEVEL_ROWS, max_categories=MAX_LINEAR_LEVELS)
        return make_pipeline(levels, OneHotEncoder(handle_unknown="ignore"))
    return Levels(min_frequency=2, max_categories=MAX_LEVELS)


def _standardised() -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
    )


class BoostedTrees(BaseEstimator):  # type: ignore[misc]
    """scikit-learn's histogram gradient boosting, of which the trees alone are kept, as arrays.

    The estimator itself holds loss functions and generators, which a file that must not hold code cannot.

    Args:
        classification: Whether the target holds class positions.
        quantile: The level of the quantile that is predicted; None: the mean.
        n_categorical: The first so many columns are codes of categories.
        early_stopping: Whether a tenth of the rows says when to stop, where no others are given.
        learning_rate, max_iter, max_leaf_nodes, min_samples_leaf, l2_regularization, max_features: As scikit-learn's.

    Attributes:
        classes_: Class positions that were seen; empty in regression.
        n_rounds_: Steps that are kept, of one tree each, or one a class from three classes on.
        learning_rate_: Their size, in the mean.
        nodes_, tree_starts_: The nodes of all trees one after the other, and where each tree begins.
        bitsets_, bitset_starts_: Categories that go left, of all splits by category, and where each tree's begin.
        levels_: Codes that were seen, of each categorical column; trees know them by their positions.
        known_, place_: These positions as bits, and each column's place among the categorical ones.
        baseline_: Where the sums start; (outputs,).
    """

    def __init__(
        self,
        *,
        classification: bool,
        quantile: float | None = None,
        n_categorical: int = 0,
        early_stopping: bool = False,
        learning_rate: float = 0.1,
        max_iter: int = 100,
        max_leaf_nodes: int = 31,
        min_samples_leaf: int = 20,
        l2_regularization: float = 0.0,
        max_features: float = 1.0,
        random_state: int | None = None,
    ) -> None:
        self.classification = classification
        self.quantile = quantile
        self.n_categorical = n_categorical
        self.early_stopping = early_stopping
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf
        self.l2_regularization = l2_regularization
        self.max_features = max_features
        self.random_state = random_state

    def fit(
        self,
        X: NDArray[np.float64],
        y: NDArray[Any],
        X_val: NDArray[np.float64] | None = None,
        y_val: NDArray[Any] | None = None,
        stop_at: float = math.inf,
    ) -> BoostedTrees:
        """Fits on some rows; with others, the steps are kept up to the one that does best on those.

        Args:
            X, y: (rows, columns) and (rows,).
            X_val, y_val: The other rows, of classes that `y` has.
            stop_at: `time.monotonic()` after which there is no further step.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        held: dict[str, Any] = {}
        if X_val is not None and y_val is not None:
            seen = np.isin(y_val, y) if self.classification else np.ones(len(y_val), dtype=bool)
            held = {"X_val": X_val[seen], "y_val": y_val[seen]} if seen.any() else {}
        kind = HistGradientBoostingClassifier if self.classification else HistGradientBoostingRegressor
        asked = {} if self.quantile is None else {"loss": "quantile", "quantile": self.quantile}
        # Looking at the clock costs a new beginning of what is fitted, so that is done only where there is a clock.
        is_timed = not math.isinf(stop_at)
        began = time.monotonic()
        fitted = kind(
            learning_rate=self.learning_rate,
            max_iter=min(FIRST_ROUNDS, self.max_iter) if is_timed else self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            max_features=self.max_features,
            early_stopping=bool(held) or self.early_stopping,
            n_iter_no_change=PATIENCE_ROUNDS if held else 10,
            random_state=self.random_state,
            warm_start=True,
            categorical_features=list(range(self.n_categorical)),
            **asked,
        ).fit(X, y, **held)
        rates = [self.learning_rate] * fitted.n_iter_
        if held and is_timed:
            n_fitting = (stop_at - time.monotonic()) * fitted.n_iter_ / (time.monotonic() - began)
            wanted = self.learning_rate * SMALL_STEPS / max(n_fitting, 1.0)
            fitted.set_params(learning_rate=float(np.clip(wanted, self.learning_rate, LARGEST_STEP)))
        while fitted.n_iter_ == fitted.max_iter < self.max_iter and (now := time.monotonic()) < stop_at:
            # As many as before, or most of what fits into the time: few new beginnings, and none that ends too late.
            n_fitting = 0.8 * (stop_at - now) * fitted.n_iter_ / (now - began)
            n_more = int(np.clip(n_fitting, FIRST_ROUNDS, fitted.n_iter_))
            fitted.set_params(max_iter=min(fitted.max_iter + n_more, self.max_iter)).fit(X, y, **held)
        rates += [fitted.learning_rate] * (fitted.n_iter_ - len(rates))
        stages = fitted._predictors
        if held:
            stages = stages[: max(int(np.argmax(fitted.validation_score_)), 1)]  # the first score is that of no tree
        self.learning_rate_ = float(np.mean(rates[: len(stages)]))
        self.classes_ = fitted.classes_ if self.classification else np.empty(0, dtype=np.int64)
        self.n_rounds_ = len(stages)
        trees = [tree for stage in stages for tree in stage]
        self.nodes_, self.tree_starts_ = _joined([tree.nodes for tree in trees])
        self.bitsets_, self.bitset_starts_ = _joined([tree.raw_left_cat_bitsets for tree in trees])
        self.levels_ = [np.unique(X[:, column]) for column in range(self.n_categorical)]
        self.known_, self.place_ = fitted._bin_mapper.make_known_categories_bitsets()
        self.baseline_ = np.asarray(fitted._baseline_prediction, dtype=np.float64).reshape(-1)
        return self

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns values; (rows,)."""
        return self._sums(X)[:, 0]

    def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns probabilities; (rows, classes)."""
        from scipy.special import softmax

        sums = self._sums(X)
        if sums.shape[1] == 1:  # of two classes, the single sum stands for the logits 0 and itself
            sums = np.hstack([np.zeros_like(sums), sums])
        probabilities: NDArray[np.float64] = softmax(sums, axis=1)
        return probabilities[:, -len(self.classes_) :]

    def is_sound(self) -> bool:
        """Returns whether every branch leads to a later node of its tree, and every split looks at a column."""
        nodes, starts = self.nodes_, self.tree_starts_
        if not (len(starts) and starts[0] == 0 and starts[-1] == len(nodes) and (np.diff(starts) > 0).all()):
            return False
        if self.bitset_starts_.shape != starts.shape or self.bitset_starts_[-1] != len(self.bitsets_):
            return False
        sizes = np.diff(starts)
        of_tree = np.repeat(np.arange(len(sizes)), sizes)
        position = np.arange(len(nodes)) - starts[of_tree]
        inner = nodes["is_leaf"] == 0
        categorical = inner & (nodes["is_categorical"] != 0)
        ends = [(nodes[side] > position) & (nodes[side] < sizes[of_tree]) for side in ("left", "right")]
        columns = (nodes["feature_idx"] >= 0) & (nodes["feature_idx"] < len(self.place_))
        bits = nodes["bitset_idx"] < np.diff(self.bitset_starts_)[of_tree]
        known = bool((self.place_[: self.n_categorical] < max(len(self.known_), 1)).all())
        return known and bool((ends[0] & ends[1] & columns)[inner].all()) and bool(bits[categorical].all())

    def _sums(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns what the trees add up to; (rows, outputs)."""
        from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
        from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

        X = np.array(X, dtype=np.float64, order="C")
        for column, levels in enumerate(self.levels_):
            position = np.minimum(np.searchsorted(levels, X[:, column]), len(levels) - 1)
            X[:, column] = np.where(levels[position] == X[:, column], position, np.nan)
        n_outputs = len(self.baseline_)
        sums = np.tile(self.baseline_, (len(X), 1))
        for number in range(len(self.tree_starts_) - 1):
            nodes = self.nodes_[self.tree_starts_[number] : self.tree_starts_[number + 1]]
            bitsets = self.bitsets_[self.bitset_starts_[number] : self.bitset_starts_[number + 1]]
            tree = TreePredictor(nodes, bitsets, bitsets)
            sums[:, number % n_outputs] += tree.predict(X, self.known_, self.place_, _openmp_effective_n_threads())
        return sums


class Forest(BaseEstimator):  # type: ignore[misc]
    """Extremely randomised trees, kept as arrays: what scikit-learn keeps of each row and node is left out.

    Args:
        classification: Whether the target holds class positions.
        n_trees: At most.

    Attributes:
        classes_: Class positions that were seen; empty in regression.
        starts_: Where each tree begins among the nodes of all.
        left_, right_, feature_, threshold_, missing_left_: Of each node; a leaf has no children and -1 as both.
        value_: Class shares or mean of each node; (nodes, outputs).
        n_features_: Columns.
    """

    def __init__(self, *, classification: bool, n_trees: int = N_TREES, random_state: int | None = None) -> None:
        self.classification = classification
        self.n_trees = n_trees
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[Any], stop_at: float = math.inf) -> Forest:
        """Fits on X (rows, columns) and y (rows,); after `time.monotonic()` is past `stop_at`, no tree is grown."""
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        kind = ExtraTreesClassifier if self.classification else ExtraTreesRegressor
        fitted = kind(
            n_estimators=TREES_AT_ONCE,
            min_samples_leaf=max(1, len(y) // MAX_LEAVES),
            random_state=self.random_state,
            warm_start=True,
        ).fit(X, y)
        while fitted.n_estimators < self.n_trees and time.monotonic() < stop_at:
            fitted.set_params(n_estimators=fitted.n_estimators + TREES_AT_ONCE).fit(X, y)
        trees = [estimator.tree_ for estimator in fitted.estimators_]
        self.classes_ = fitted.classes_ if self.classification else np.empty(0, dtype=np.int64)
        self.n_features_ = X.shape[1]
        self.left_, self.starts_ = _joined([tree.children_left.astype(np.int32) for tree in trees])
        self.right_ = np.concatenate([tree.children_right.astype(np.int32) for tree in trees])
        self.feature_ = np.concatenate([tree.feature.astype(np.int32) for tree in trees])
        self.threshold_ = np.concatenate([tree.threshold for tree in trees])
        self.missing_left_ = np.concatenate([tree.missing_go_to_left.astype(np.uint8) for tree in trees])
        self.value_ = np.concatenate([tree.value[:, 0] for tree in trees]).astype(np.float32)
        return self

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns values; (rows,)."""
        return self._means(X)[:, 0]

    def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns probabilities; (rows, classes)."""
        return self._means(X)

    def is_sound(self) -> bool:
        """Returns whether every branch leads to a later node of its tree, and every split looks at a column."""
        n, starts = len(self.left_), self.starts_
        if not (len(starts) and starts[0] == 0 and starts[-1] == n and (np.diff(starts) > 0).all()):
            return False
        arrays = (self.right_, self.feature_, self.threshold_, self.missing_left_, self.value_)
        if any(len(array) != n for array in arrays) or self.value_.ndim != 2:
            return False
        sizes = np.diff(starts)
        of_tree = np.repeat(np.arange(len(sizes)), sizes)
        position = np.arange(n) - starts[of_tree]
        inner = (self.left_ != -1) | (self.right_ != -1)
        ends = [(side > position) & (side < sizes[of_tree]) for side in (self.left_, self.right_)]
        columns = (self.feature_ >= 0) & (self.feature_ < self.n_features_)
        return bool((ends[0] & ends[1] & columns)[inner].all())

    def _means(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the mean over the trees of the leaf that each row falls into; (rows, outputs)."""
        from sklearn.tree._tree import NODE_DTYPE, Tree

        X = np.ascontiguousarray(X, dtype=np.float32)
        n_outputs = self.value_.shape[1]
        total = np.zeros((len(X), n_outputs))
        for first, end in zip(self.starts_[:-1], self.starts_[1:], strict=True):
            nodes = np.zeros(end - first, dtype=NODE_DTYPE)
            for name, array in (
                ("left_child", self.left_),
                ("right_child", self.right_),
                ("feature", self.feature_),
                ("threshold", self.threshold_),
                ("missing_go_to_left", self.missing_left_),
            ):
                nodes[name] = array[first:end]
            values = np.ascontiguousarray(self.value_[first:end, None, :], dtype=np.float64)
            tree = Tree(self.n_features_, np.array([n_outputs], dtype=np.intp), 1)
            tree.__setstate__({"max_depth": 0, "node_count": len(nodes), "nodes": nodes, "values": values})
            total += tree.predict(X).reshape(len(X), n_outputs)
        return total / (len(self.starts_) - 1)


def _joined(arrays: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Returns arrays one after the other, and where each begins, with the end behind the last."""
    return np.concatenate(arrays), np.cumsum([0, *map(len, arrays)])
