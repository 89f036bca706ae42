"""Fitted steps as one skops file, which holds numbers and names of types, and no code.

skops refuses types that it does not know, but it knows all of scikit-learn, and that is too much: a
`CountVectorizer(input="filename")` reads any file of the machine. So a file is checked against the list below before
skops looks at it, and skops is told to trust what passed.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import skops.io
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  the import that makes the next one possible
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import BayesianRidge
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, QuantileTransformer, StandardScaler, TargetEncoder

from automl.components import STAGES, catalogue
from automl.errors import RefusedError
from automl.preprocessing.baseline import BaselineScaling
from automl.preprocessing.channels import ChannelScaling
from automl.preprocessing.clipping import Fences
from automl.preprocessing.convolutional import ConvolutionalAutoencoder
from automl.preprocessing.encoding import (
    HashedLevels,
    LevelCounts,
    Levels,
    SmallOneHot,
    TargetMeans,
    TextDirections,
)
from automl.preprocessing.imputation import CentroidImputer, ColumnImputer, EmptyColumns, RowDropper, SampledImputer
from automl.preprocessing.reduction import (
    Autoencoder,
    CappedSVD,
    ColumnClusters,
    Discriminants,
    IndependentComponents,
    KernelComponents,
    Manifold,
    RandomDirections,
)
from automl.preprocessing.scaling import CoarseQuantiles, SmoothClip, SpreadPower, SpreadScaler
from automl.preprocessing.selection import BestColumns, UncorrelatedColumns
from automl.preprocessing.tokenisation import BytePairs, HashedTokens
from automl.preprocessing.vectorisation import SentenceVectors

#: Every type that a saved preprocessing may be made of. Before adding one, make sure that an object of it with
#: *arbitrary* attributes runs no code from them, opens no file and no connection, neither when its attributes are set
#: nor in `transform`. A test saves and loads every registered option, and so tells when a type is missing.
ALLOWED_TYPES = frozenset(
    f"{kind.__module__}.{kind.__qualname__}"
    for kind in (
        # plain values
        *(dict, list, tuple, str, int, float, bool),
        *(np.ndarray, np.dtype, np.bool_, np.float32, np.float64, np.int32, np.int64, np.random.RandomState),
        # scikit-learn's: arrays inside, arithmetic in `transform`
        *(SimpleImputer, KNNImputer, MissingIndicator, IterativeImputer, BayesianRidge),
        *(OneHotEncoder, TargetEncoder, StandardScaler, MinMaxScaler, QuantileTransformer),
        *(TfidfTransformer, PCA, TruncatedSVD),
        Pipeline,  # calls its steps, which are of these types themselves
        KFold,  # how a target encoder was cross-fitted; without use after that
        # ours: the same, around the ones above
        *(ChannelScaling, BaselineScaling, EmptyColumns, ColumnImputer, RowDropper, SampledImputer, CentroidImputer),
        *(Levels, TargetMeans, TextDirections, SmallOneHot, LevelCounts, HashedLevels),
        *(HashedTokens, BytePairs),
        SentenceVectors,  # reads files while it is fitted, and none in `transform`
        *(Fences, CoarseQuantiles, SpreadScaler, SmoothClip, SpreadPower, BestColumns, UncorrelatedColumns),
        *(CappedSVD, RandomDirections, IndependentComponents, ColumnClusters, Discriminants),
        *(KernelComponents, Autoencoder, ConvolutionalAutoencoder, Manifold),
    )
) | {"sklearn.impute._iterative._ImputerTriplet"}  # private: a named tuple of two index arrays and an estimator

#: The ways in which skops may build an object: of values, or empty and then filled with attributes. Left out are
#: those that call something on the way (functions, methods, partials, operators, constructors from a reduction).
ALLOWED_LOADERS = frozenset(
    {"DictNode", "ListNode", "TupleNode", "JsonNode", "TypeNode", "ObjectNode"}
    | {"NdArrayNode", "DTypeNode", "RandomStateNode"}
)


def write(document: dict[str, Any], path: Path) -> None:
    """Writes plain values, arrays and fitted estimators to a file."""
    skops.io.dump(document, path, compression=zipfile.ZIP_DEFLATED)


def read(path: Path, more: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Returns what `write` wrote.

    Args:
        path: The file.
        more: Types that are allowed beside those of preprocessing.

    Raises:
        RefusedError: The file cannot be read, or holds something that is not on the list; nothing of it was built.
    """
    try:
        data = path.read_bytes()  # once, so that what is checked is what is loaded
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            nodes = set(_nodes(json.loads(archive.read("schema.json"))))
        refused = sorted(
            {kind for kind, loader in nodes if not (kind in more or _is_allowed(kind)) or loader not in ALLOWED_LOADERS}
        )
        document = None if refused else skops.io.loads(data, trusted=sorted({kind for kind, _ in nodes}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
        raise RefusedError(f"what was fitted cannot be read ({error})", where=str(path)) from error
    if refused:
        raise RefusedError(
            f"what was fitted holds what is not trusted: {', '.join(f'`{kind}`' for kind in refused)}",
            where=str(path),
            remedy="Load it only if you know where it comes from and name the plug-in that it was made with.",
        )
    if not isinstance(document, dict):
        raise RefusedError("the file does not hold what was fitted", where=str(path))
    return document


def _nodes(state: Any) -> Iterator[tuple[str, str]]:
    """Yields (type, loader) of everything that a skops schema would have built."""
    if isinstance(state, dict):
        if "__loader__" in state or "__class__" in state:
            yield f"{state.get('__module__')}.{state.get('__class__')}", str(state.get("__loader__"))
        for child in state.values():
            yield from _nodes(child)
    elif isinstance(state, list):
        for child in state:
            yield from _nodes(child)


def _is_allowed(kind: str) -> bool:
    """Returns whether a type is on the list, or a class of a plug-in, which the person who loads has chosen to run."""
    if kind in ALLOWED_TYPES:
        return True
    module, _, name = kind.rpartition(".")
    plugins = {component.factory.__module__ for stage in STAGES for component in catalogue(stage)}
    found = getattr(sys.modules.get(module), name, None)
    return module in plugins and isinstance(found, type) and found.__module__ == module
