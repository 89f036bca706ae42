"""Classes of unequal size: training rows are repeated, left out or made up. Rows to predict never are.

`strength` means the same in all of them: the share of the gap between a class and the largest (where rows are added)
or the smallest (where rows go) that is closed; 0 changes nothing, 1 makes all classes equally large.

What makes up rows takes the columns as they are, and needs numbers, `smote`'s mixed forms and the networks of
`generative` excepted. What leaves out rows compares them as `neighbours` describes, and so takes numbers and codes.
Where every row is compared with all others, large tables are worked on in random parts (`PART_ROWS`), as if each part
were a table.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import KMeans, MiniBatchKMeans

from automl.components import register
from automl.errors import DataError
from automl.preprocessing.limits import within
from automl.preprocessing.neighbours import MAX_COMPARED_ROWS, comparable, in_parts
from automl.values import Task

if TYPE_CHECKING:  # imported where it is used: no prediction needs it, and it takes a while
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

#: Under-sampling leaves a class this many rows, or a class with one row would leave one of every other.
MIN_CLASS_ROWS = 10

#: A network is not asked for rows of a class of which it has seen fewer than this.
MIN_LEARNED_ROWS = 10

#: Rows that a method works on at once; `smote` compares rows of one class only, and works on all.
PART_ROWS = {
    "borderline": 2 * MAX_COMPARED_ROWS,
    "adasyn": 2 * MAX_COMPARED_ROWS,
    "kmeans": 2 * MAX_COMPARED_ROWS,
    "svm": 1_000,
    "centroids": 2_000,
}


@register("resampling", "picks_rows")
def random_over(task: Task, *, strength: float = 1.0) -> RandomOverSampler:
    """Repeats random rows of the smaller classes."""
    from imblearn.over_sampling import RandomOverSampler

    return RandomOverSampler(sampling_strategy=partial(grown, strength=strength))


@register("resampling", "picks_rows")
def random_under(task: Task, *, strength: float = 1.0) -> RandomUnderSampler:
    """Leaves out random rows of the larger classes, none of which is cut below 10 rows."""
    from imblearn.under_sampling import RandomUnderSampler

    return RandomUnderSampler(sampling_strategy=partial(shrunk, strength=strength))


@register("resampling", "synthesises_numeric")
def smote(task: Task, *, k_neighbors: int = 5, strength: float = 1.0) -> Synthesiser:
    """Makes up rows of the smaller classes between near rows of the class; numeric columns only.

    Chawla et al., "SMOTE: synthetic minority over-sampling technique", 2002.
    """
    return Synthesiser(k_neighbors=k_neighbors, strength=strength)


@register("resampling", "synthesises_mixed")
def smotenc(task: Task, *, k_neighbors: int = 5, strength: float = 1.0) -> Synthesiser:
    """Makes up rows of the smaller classes as `smote` does, with the category that most of the near rows have.

    The same as `smote` where no categorical column is left.

    Chawla et al., "SMOTE: synthetic minority over-sampling technique", 2002, section 6.
    """
    return Synthesiser(k_neighbors=k_neighbors, strength=strength)


@register("resampling", "synthesises_numeric")
def borderline_smote(task: Task, *, k_neighbors: int = 5, m_neighbors: int = 10, strength: float = 1.0) -> Synthesiser:
    """Makes up rows as `smote` does, starting from rows of which half or more of the near ones are of other classes.

    Args:
        task: Not looked at.
        k_neighbors: Near rows of the class to mix with.
        m_neighbors: Near rows that are looked at.
        strength: Share of the gap that is closed.

    Han, Wang and Mao, "Borderline-SMOTE: a new over-sampling method in imbalanced data sets learning", 2005.
    """
    _check("borderline_smote", strength, k_neighbors=k_neighbors, m_neighbors=m_neighbors)
    return Synthesiser(method="borderline", k_neighbors=k_neighbors, m_neighbors=m_neighbors, strength=strength)


@register("resampling", "synthesises_numeric")
def svm_smote(task: Task, *, k_neighbors: int = 5, m_neighbors: int = 10, strength: float = 1.0) -> Synthesiser:
    """Makes up rows as `smote` does, starting from the support vectors of a support vector machine.

    Works on parts of 1,000 rows.

    Nguyen, Cooper and Kamei, "Borderline over-sampling for imbalanced data classification", 2011.
    """
    _check("svm_smote", strength, k_neighbors=k_neighbors, m_neighbors=m_neighbors)
    return Synthesiser(method="svm", k_neighbors=k_neighbors, m_neighbors=m_neighbors, strength=strength)


@register("resampling", "synthesises_numeric")
def adasyn(task: Task, *, k_neighbors: int = 5, strength: float = 1.0) -> Synthesiser:
    """Makes up rows as `smote` does, more of them where more of the near rows are of other classes.

    He, Bai, Garcia and Li, "ADASYN: adaptive synthetic sampling approach for imbalanced learning", 2008.
    """
    _check("adasyn", strength, k_neighbors=k_neighbors)
    return Synthesiser(method="adasyn", k_neighbors=k_neighbors, strength=strength)


@register("resampling", "synthesises_numeric")
def kmeans_smote(task: Task, *, k_neighbors: int = 3, n_clusters: int = 16, strength: float = 1.0) -> Synthesiser:
    """Makes up rows as `smote` does within clusters where the class is no rarer than elsewhere, most where it is thin.

    Douzas, Bacao and Last, "Improving imbalanced learning through a heuristic oversampling method based on k-means and
    SMOTE", 2018.
    """
    _check("kmeans_smote", strength, k_neighbors=k_neighbors, n_clusters=n_clusters)
    return Synthesiser(method="kmeans", k_neighbors=k_neighbors, n_clusters=n_clusters, strength=strength)


@register("resampling", "picks_rows")
def tomek(task: Task) -> Picker:
    """Leaves out rows of the larger classes that are the nearest of a row of another class, which is theirs.

    Tomek, "Two modifications of CNN", 1976.
    """
    return Picker(method="tomek")


@register("resampling", "picks_rows")
def edited_nearest_neighbours(task: Task, *, n_neighbors: int = 3, agree: Literal["most", "all"] = "most") -> Picker:
    """Leaves out rows of the larger classes whose near rows do not agree with their class.

    Args:
        task: Not looked at.
        n_neighbors: Near rows that are asked.
        agree: How many of them must be of the row's class.

    Wilson, "Asymptotic properties of nearest neighbor rules using edited data", 1972.
    """
    _check("edited_nearest_neighbours", 0, n_neighbors=n_neighbors)
    return Picker(method="edited", n_neighbors=n_neighbors, agree=agree)


@register("resampling", "picks_rows")
def near_miss(task: Task, *, n_neighbors: int = 3, strength: float = 1.0) -> Picker:
    """Keeps those rows of the larger classes that are nearest to rows of the smallest (NearMiss-1); no class below 10.

    Zhang and Mani, "kNN approach to unbalanced data distributions: a case study involving information extraction",
    2003.
    """
    _check("near_miss", strength, n_neighbors=n_neighbors)
    return Picker(method="near_miss", n_neighbors=n_neighbors, strength=strength)


@register("resampling", "synthesises_numeric")
def cluster_centroids(task: Task, *, strength: float = 1.0) -> Centroids:
    """Replaces the rows of the larger classes by as many means of clusters as shall be left, none below 10.

    Works on parts of 2,000 rows.

    Yen and Lee, "Cluster-based under-sampling approaches for imbalanced data distributions", 2009.
    """
    _check("cluster_centroids", strength)
    return Centroids(strength=strength)


@register("resampling", "synthesises_mixed")
def smote_enn(task: Task, *, k_neighbors: int = 5, n_neighbors: int = 3, strength: float = 1.0) -> CleanedSynthesiser:
    """Makes up rows as `smotenc` does, then leaves out rows of any class that not all of the near rows agree with.

    Batista, Prati and Monard, "A study of the behavior of several methods for balancing machine learning training
    data", 2004.
    """
    _check("smote_enn", strength, k_neighbors=k_neighbors, n_neighbors=n_neighbors)
    return CleanedSynthesiser(
        Synthesiser(k_neighbors=k_neighbors, strength=strength),
        Picker(method="edited", n_neighbors=n_neighbors, agree="all", every_class=True),
    )


@register("resampling", "synthesises_mixed")
def smote_tomek(task: Task, *, k_neighbors: int = 5, strength: float = 1.0) -> CleanedSynthesiser:
    """Makes up rows as `smotenc` does, then leaves out both rows of each pair of `tomek`.

    Batista, Prati and Monard, "A study of the behavior of several methods for balancing machine learning training
    data", 2004.
    """
    _check("smote_tomek", strength, k_neighbors=k_neighbors)
    return CleanedSynthesiser(
        Synthesiser(k_neighbors=k_neighbors, strength=strength), Picker(method="tomek", every_class=True)
    )


@register("resampling", "synthesises_mixed", "columns_only", "takes_seconds")
def gan(task: Task, *, n_steps: int = 400, width: int = 128, strength: float = 1.0) -> Generator:
    """Makes up rows of the smaller classes by a conditional adversarial network that learned from the rows of all.

    Some seconds, as the steps are as many for every table. A class of fewer than 10 rows stays as it is.

    Args:
        task: Not looked at.
        n_steps: Steps of training, of 256 rows each.
        width: Units of the hidden layers.
        strength: Share of the gap that is closed.

    Goodfellow et al., "Generative adversarial nets", 2014; after CTGAN (Xu et al. 2019, arXiv 1907.00503).
    """
    _check("gan", strength, n_steps=n_steps, width=width)
    return Generator(method="gan", n_steps=n_steps, width=width, strength=strength)


@register("resampling", "synthesises_mixed", "columns_only", "takes_seconds")
def cvae(task: Task, *, n_steps: int = 600, width: int = 128, strength: float = 1.0) -> Generator:
    """Makes up rows of the smaller classes by a conditional variational autoencoder that learned from the rows of all.

    Otherwise as `gan`.

    Kingma and Welling, "Auto-encoding variational Bayes", 2014; after TVAE (Xu et al. 2019, arXiv 1907.00503).
    """
    _check("cvae", strength, n_steps=n_steps, width=width)
    return Generator(method="cvae", n_steps=n_steps, width=width, strength=strength)


def grown(y: NDArray[np.int64], *, strength: float) -> dict[int, int]:
    """Returns class -> rows it shall have when classes grow towards the largest."""
    classes, counts = np.unique(y, return_counts=True)
    wanted = counts + np.rint(strength * (counts.max() - counts)).astype(int)
    return dict(zip(classes.tolist(), wanted.tolist(), strict=True))


def shrunk(y: NDArray[np.int64], *, strength: float) -> dict[int, int]:
    """Returns class -> rows it shall have when classes shrink towards the smallest, or towards 10 rows."""
    classes, counts = np.unique(y, return_counts=True)
    floor = np.minimum(counts, max(counts.min(), MIN_CLASS_ROWS))
    wanted = counts - np.rint(strength * (counts - floor)).astype(int)
    return dict(zip(classes.tolist(), wanted.tolist(), strict=True))


class Synthesiser(BaseEstimator):  # type: ignore[misc]
    """imbalanced-learn's kinds of SMOTE, with neighbours that exist; SMOTE itself is of the kind the columns ask for.

    Each class grows by itself, since imbalanced-learn takes one `k_neighbors` for all classes, however small. A class
    that a method finds nothing to start from for stays as it is.

    Args:
        method: `smote` is SMOTE, SMOTE-NC or SMOTE-N. The others take numbers only.
        k_neighbors: Near rows that a row may be mixed with; fewer in classes that are too small for it. A class of one
            row has no neighbours and stays as it is.
        m_neighbors: Near rows of any class that `borderline` and `svm` look at.
        n_clusters: Of `kmeans`; at most one for ten rows.
        strength: Share of the gap to the largest class that is closed, in 0..1.
        categorical_features: Positions of the columns that hold codes.
    """

    def __init__(
        self,
        *,
        method: Literal["smote", "borderline", "svm", "adasyn", "kmeans"] = "smote",
        k_neighbors: int = 5,
        m_neighbors: int = 10,
        n_clusters: int = 16,
        strength: float = 1.0,
        categorical_features: tuple[int, ...] = (),
        random_state: int | None = None,
    ) -> None:
        self.method = method
        self.k_neighbors = k_neighbors
        self.m_neighbors = m_neighbors
        self.n_clusters = n_clusters
        self.strength = strength
        self.categorical_features = categorical_features
        self.random_state = random_state

    def fit_resample(
        self, X: NDArray[np.float64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns the rows and targets, the new ones behind the given ones."""
        rows, labels, notes = [X], [y], dict[str, None]()
        for part in in_parts(len(y), PART_ROWS.get(self.method, len(y)), self.random_state):
            for label, n_wanted in grown(y[part], strength=self.strength).items():
                made, note = self._made(X[part], y[part], label, n_wanted)
                rows.append(made)
                labels.append(np.full(len(made), label, dtype=y.dtype))
                notes |= dict.fromkeys(note)
        self.notes_ = tuple(notes)
        return np.vstack(rows), np.concatenate(labels)

    def _made(
        self, X: NDArray[np.float64], y: NDArray[np.int64], label: int, n_wanted: int
    ) -> tuple[NDArray[np.float64], list[str]]:
        """Returns new rows of a class that shall have `n_wanted`, and what is to be told of them."""
        n_members = int((y == label).sum())
        if n_wanted == n_members:
            return X[:0], []
        if n_members == 1:
            return X[:0], ["a class of one row is left as it is, having no neighbours"]
        k_neighbors = min(self.k_neighbors, n_members - 1)
        lowered = f"k_neighbors lowered to {k_neighbors} for a class of {n_members} rows"
        notes = [lowered] if k_neighbors < self.k_neighbors else []
        sampler = self._sampler(X.shape[1], k_neighbors, len(y), n_members / len(y))
        sampler.set_params(sampling_strategy={label: n_wanted}, random_state=self.random_state)
        if self.method == "smote":
            seen = np.arange(len(y))
            if len(self.categorical_features) < X.shape[1]:
                # SMOTE and SMOTE-NC look at rows of the class alone. Another class must be there, of which a row will
                # do: to encode and decode the whole table for each class is most of what SMOTE-NC does.
                seen = np.append(np.flatnonzero(y == label), np.flatnonzero(y != label)[0])
            return sampler.fit_resample(X[seen], y[seen])[0][len(seen) :], notes
        try:
            made = sampler.fit_resample(X, y)[0][len(X) :]
        except (RuntimeError, ValueError):  # no cluster with enough rows of it, no row among other classes, only noise
            made = X[:0]
        if len(made) == 0:
            notes.append(f"a class of {n_members} rows is left as it is, with nothing to start from")
        return made, notes

    def _sampler(self, n_columns: int, k_neighbors: int, n_rows: int, share: float) -> Any:
        from imblearn.over_sampling import ADASYN, SMOTE, SMOTEN, SMOTENC, SVMSMOTE, BorderlineSMOTE, KMeansSMOTE

        m_neighbors = min(self.m_neighbors, n_rows - 1)
        if self.method == "borderline":
            return BorderlineSMOTE(k_neighbors=k_neighbors, m_neighbors=m_neighbors)
        if self.method == "svm":
            return SVMSMOTE(k_neighbors=k_neighbors, m_neighbors=m_neighbors)
        if self.method == "adasyn":
            return ADASYN(n_neighbors=k_neighbors)
        if self.method == "kmeans":
            n_clusters = max(1, min(self.n_clusters, n_rows // 10))
            kmeans = MiniBatchKMeans(n_clusters, n_init=1, random_state=self.random_state)
            # Its own default asks for clusters in which the class is the half, of which there may be none.
            return KMeansSMOTE(kmeans_estimator=kmeans, k_neighbors=k_neighbors, cluster_balance_threshold=share)
        if not self.categorical_features:
            return SMOTE(k_neighbors=k_neighbors)
        if len(self.categorical_features) == n_columns:
            return SMOTEN(k_neighbors=k_neighbors)
        return SMOTENC(categorical_features=list(self.categorical_features), k_neighbors=k_neighbors)


class Generator(BaseEstimator):  # type: ignore[misc]
    """A network that has learned what rows of each class look like, and makes up others of the smaller ones.

    Args:
        method: As the factories are named.
        n_steps, width: As of these.
        strength: Share of the gap to the largest class that is closed, in 0..1.
        categorical_features: Positions of the columns that hold codes.
    """

    def __init__(
        self,
        *,
        method: Literal["gan", "cvae"] = "gan",
        n_steps: int = 400,
        width: int = 128,
        strength: float = 1.0,
        categorical_features: tuple[int, ...] = (),
        random_state: int | None = None,
    ) -> None:
        self.method = method
        self.n_steps = n_steps
        self.width = width
        self.strength = strength
        self.categorical_features = categorical_features
        self.random_state = random_state

    def fit_resample(
        self, X: NDArray[np.float64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns the rows and targets, the new ones behind the given ones.

        Raises:
            DataError: No class that is to grow has rows enough to learn from.
        """
        counts = dict(zip(*np.unique(y, return_counts=True), strict=True))
        short = {label: n_rows - counts[label] for label, n_rows in grown(y, strength=self.strength).items()}
        growing = [label for label, n_rows in short.items() if n_rows]
        wanted = {label: short[label] for label in growing if counts[label] >= MIN_LEARNED_ROWS}
        if growing and not wanted:
            most = max(counts[label] for label in growing)
            raise DataError(
                f"the resampling `{self.method}` learns from {MIN_LEARNED_ROWS} rows of a class or more, and no class "
                f"that is to grow has more than {most} training rows",
                remedy="Resample with `random_over` or `smotenc`.",
            )
        self.notes_ = tuple(
            f"a class of {counts[label]} rows is left as it is, too few for a network to learn from"
            for label in growing
            if label not in wanted
        )
        if not wanted:
            return X, y
        from automl.preprocessing.generative import made_up

        rows, labels = made_up(
            X,
            y,
            wanted,
            method=self.method,
            n_steps=self.n_steps,
            width=self.width,
            categorical=self.categorical_features,
            seed=self.random_state,
        )
        return np.vstack([X, rows]), np.concatenate([y, labels])


class Picker(BaseEstimator):  # type: ignore[misc]
    """imbalanced-learn's samplers that leave out rows by what is near them, with distances that mean something.

    A class that would be left fewer than ten rows stays as it is.

    Args:
        method: `edited` asks the near rows, `tomek` the nearest, `near_miss` those of the smallest class.
        n_neighbors: Near rows; fewer where there are fewer.
        agree: Of `edited`: how many of the near rows must be of the row's class.
        strength: Of `near_miss`: share of the gap to the smallest class that is closed, in 0..1.
        every_class: Whether rows of the smallest class may go as well; not with `near_miss`.
        categorical_features: Positions of the columns that hold codes.

    Attributes:
        sample_indices_: Positions of the rows kept; (n_kept,).
    """

    def __init__(
        self,
        *,
        method: Literal["edited", "tomek", "near_miss"],
        n_neighbors: int = 3,
        agree: Literal["most", "all"] = "most",
        strength: float = 1.0,
        every_class: bool = False,
        categorical_features: tuple[int, ...] = (),
        random_state: int | None = None,
    ) -> None:
        self.method = method
        self.n_neighbors = n_neighbors
        self.agree = agree
        self.strength = strength
        self.every_class = every_class
        self.categorical_features = categorical_features
        self.random_state = random_state

    def fit_resample(
        self, X: NDArray[np.float64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns the rows kept, in their order, and their targets."""
        space = comparable(X, self.categorical_features)
        kept = np.zeros(len(y), dtype=bool)
        for part in in_parts(len(y), MAX_COMPARED_ROWS, self.random_state):
            kept[part[self._picked(space[part], y[part])]] = True
        notes = []
        for label, count in zip(*np.unique(y, return_counts=True), strict=True):
            of_class = y == label
            if (kept & of_class).sum() < min(count, MIN_CLASS_ROWS):
                kept |= of_class
                notes.append(f"a class of {count} rows is left as it is, or hardly a row of it would be left")
        self.sample_indices_ = np.flatnonzero(kept)
        self.notes_ = tuple(notes)
        return X[self.sample_indices_], y[self.sample_indices_]

    def _picked(self, Z: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the positions of the rows to keep, in any order."""
        from imblearn.under_sampling import EditedNearestNeighbours, NearMiss, TomekLinks

        counts = np.unique(y, return_counts=True)[1]
        if len(counts) < 2:
            return np.arange(len(y))
        strategy = "all" if self.every_class else "auto"
        if self.method == "tomek":
            sampler = TomekLinks(sampling_strategy=strategy)
        elif self.method == "edited":
            n_neighbors = min(self.n_neighbors, len(y) - 1)
            kind = {"most": "mode", "all": "all"}[self.agree]
            sampler = EditedNearestNeighbours(sampling_strategy=strategy, n_neighbors=n_neighbors, kind_sel=kind)
        else:
            n_neighbors = min(self.n_neighbors, int(counts.min()))
            sampler = NearMiss(sampling_strategy=partial(shrunk, strength=self.strength), n_neighbors=n_neighbors)
        sampler.fit_resample(Z, y)
        picked: NDArray[np.int64] = sampler.sample_indices_
        return picked


class Centroids(BaseEstimator):  # type: ignore[misc]
    """imbalanced-learn's `ClusterCentroids`, part by part.

    Args:
        strength: Share of the gap to the smallest class that is closed, in 0..1.
    """

    def __init__(self, *, strength: float = 1.0, random_state: int | None = None) -> None:
        self.strength = strength
        self.random_state = random_state

    def fit_resample(
        self, X: NDArray[np.float64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns rows and means of rows, and their targets."""
        parts = in_parts(len(y), PART_ROWS["centroids"], self.random_state)
        rows, labels = zip(*(self._replaced(X[part], y[part]) for part in parts), strict=True)
        return np.vstack(rows), np.concatenate(labels)

    def _replaced(self, X: NDArray[np.float64], y: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        from imblearn.under_sampling import ClusterCentroids

        wanted = shrunk(y, strength=self.strength)
        fewer = {label: count for label, count in wanted.items() if count < (y == label).sum()}
        if not fewer:
            return X, y
        kmeans = KMeans(init="random", n_init=1, max_iter=10, random_state=self.random_state)
        replaced: tuple[NDArray[np.float64], NDArray[np.int64]] = ClusterCentroids(
            sampling_strategy=fewer, estimator=kmeans, voting="soft"
        ).fit_resample(X, y)
        return replaced


class CleanedSynthesiser(BaseEstimator):  # type: ignore[misc]
    """Makes up rows, then leaves out some, made up or not.

    Args:
        synthesiser, picker: The one and the other.
        categorical_features: Positions of the columns that hold codes.
    """

    def __init__(self, synthesiser: Synthesiser, picker: Picker, *, categorical_features: tuple[int, ...] = ()) -> None:
        self.synthesiser = synthesiser
        self.picker = picker
        self.categorical_features = categorical_features

    def fit_resample(
        self, X: NDArray[np.float64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns rows and targets."""
        self.notes_: tuple[str, ...] = ()
        for sampler in (clone(self.synthesiser), clone(self.picker)):
            X, y = sampler.set_params(categorical_features=self.categorical_features).fit_resample(X, y)
            self.notes_ += sampler.notes_
        return X, y


def _check(name: str, strength: float, **counts: int) -> None:
    """Raises a ConfigError where the strength is not in 0..1 or a number is below 1."""
    within(f"resampling.{name}.strength", strength, 0, 1)
    for parameter, value in counts.items():
        within(f"resampling.{name}.{parameter}", value, 1)
