"""Numeric columns replaced by mixtures of them, mostly by fewer.

What a saved model holds of these steps are means, directions and weights, and no training row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA, TruncatedSVD
from sklearn.metrics.pairwise import rbf_kernel

from automl.components import register
from automl.preprocessing.convolutional import ConvolutionalAutoencoder
from automl.preprocessing.imputation import MIN_ROWS_A_DONOR, sample_rows
from automl.preprocessing.limits import within
from automl.preprocessing.scaling import SmoothClip
from automl.values import Task

if TYPE_CHECKING:
    from sklearn.neural_network import MLPRegressor

#: What grows faster than the rows is fitted on a sample of this many.
MAX_FIT_ROWS = 5_000

#: Columns are put into clusters by how alike they are on this many rows.
MAX_CLUSTERED_ROWS = 2_000

#: Rows that an autoencoder is trained on.
MAX_CODED_ROWS = 5_000

#: Rows that UMAP lays out, and those below which it cannot.
MAX_LAID_ROWS, MIN_LAID_ROWS = 3_000, 20

#: Landmarks of a kernel.
MAX_LANDMARKS = 256

#: Directions whose spread is this share of the widest one's are rounding.
MIN_SPREAD = 1e-6


@register("reduction")
def pca(task: Task, *, variance: float = 0.95, whiten: bool = False) -> PCA:
    """Keeps the principal components of the numeric columns that explain this share of their variance.

    Args:
        task: Not looked at.
        variance: In 0..1; from 1 on all components are kept.
        whiten: Whether every component gets variance 1.
    """
    return PCA(n_components=variance if variance < 1 else None, whiten=whiten)


@register("reduction")
def truncated_svd(task: Task, *, n_components: int = 32) -> CappedSVD:
    """Keeps the largest singular directions of the numeric columns, which are not centred; always fewer than columns.

    Halko, Martinsson and Tropp, "Finding structure with randomness", 2011.
    """
    return CappedSVD(n_components=n_components)


@register("reduction")
def kernel_pca(task: Task, *, n_components: int = 32, gamma: float = 1.0, whiten: bool = True) -> KernelComponents:
    """Replaces the numeric columns by principal components of a Gaussian kernel, which need not be straight.

    The kernel is approximated from up to 256 landmarks, means of clusters of at most 5,000 training rows (Nyström's
    method), so that neither time nor the saved model grow with the rows.

    Args:
        task: Not looked at.
        n_components: Components to keep; there may be more than there are columns.
        gamma: Of exp(-gamma * squared distance / (columns * variance)); larger ones see less far.
        whiten: Whether every component gets variance 1.

    Schölkopf, Smola and Müller, "Nonlinear component analysis as a kernel eigenvalue problem", 1998; Zhang, Tsang and
    Kwok, "Improved Nyström low-rank approximation and error analysis", 2008.
    """
    within("reduction.kernel_pca.n_components", n_components, 1)
    within("reduction.kernel_pca.gamma", gamma, 1e-6)
    return KernelComponents(n_components=n_components, gamma=gamma, whiten=whiten)


@register("reduction")
def fast_ica(task: Task, *, n_components: int = 16) -> IndependentComponents:
    """Replaces the numeric columns by directions that are as independent as they can be, each with variance 1.

    Found on at most 5,000 training rows, among the first principal components.

    Hyvärinen and Oja, "Independent component analysis: algorithms and applications", 2000.
    """
    within("reduction.fast_ica.n_components", n_components, 1)
    return IndependentComponents(n_components=n_components)


@register("reduction")
def random_projection(
    task: Task, *, n_components: int = 32, kind: Literal["gaussian", "sparse"] = "gaussian"
) -> RandomDirections:
    """Replaces the numeric columns by random mixtures that about keep the distances; always fewer than columns.

    Li, Hastie and Church, "Very sparse random projections", 2006.
    """
    within("reduction.random_projection.n_components", n_components, 1)
    return RandomDirections(n_components=n_components, kind=kind)


@register("reduction")
def feature_agglomeration(task: Task, *, n_clusters: int = 32) -> ColumnClusters:
    """Replaces each cluster of numeric columns that vary alike by their mean; always fewer than columns.

    Columns are standardised for that. Clusters are found on at most 2,000 training rows.

    Ward, "Hierarchical grouping to optimize an objective function", 1963.
    """
    within("reduction.feature_agglomeration.n_clusters", n_clusters, 1)
    return ColumnClusters(n_clusters=n_clusters)


@register("reduction", "classification")
def lda(task: Task) -> Discriminants:
    """Replaces the numeric columns by the directions that tell the classes apart, one fewer than classes.

    Fisher, "The use of multiple measurements in taxonomic problems", 1936.
    """
    return Discriminants()


@register("reduction")
def autoencoder(
    task: Task, *, n_components: int = 16, width: int = 64, noise: float = 0.0, n_epochs: int = 20
) -> Autoencoder:
    """Replaces the numeric columns by the narrow layer of a small network that was trained to give them back.

    Trained on at most 5,000 training rows; always fewer components than columns. With noise it is a denoising one.

    Args:
        task: Not looked at.
        n_components: Units of the narrow layer.
        width: Units of the layers before and behind it.
        noise: Share of the cells that the network is given from another row, and is to give back as they were.
        n_epochs: Passes over the rows.

    Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks", 2006; Vincent, Larochelle,
    Bengio and Manzagol, "Extracting and composing robust features with denoising autoencoders", 2008.
    """
    _check_autoencoder("autoencoder", noise, n_components=n_components, width=width, n_epochs=n_epochs)
    return Autoencoder(n_components=n_components, width=width, noise=noise, n_epochs=n_epochs)


@register("reduction", "image", "sequence")
def convolutional_autoencoder(
    task: Task, *, n_components: int = 16, depth: int = 2, width: int = 16, noise: float = 0.0, n_epochs: int = 10
) -> ConvolutionalAutoencoder:
    """Replaces each image and each sequence by the narrow layer of a convolutional network trained to give it back.

    They are numeric columns then, for networks that take columns. Trained on at most 5,000 training rows. With noise it
    is a denoising one.

    Args:
        task: Not looked at.
        n_components: Units of the narrow layer.
        depth: Stages of convolutions before and behind it, each of half the size.
        width: Channels of the first stage; each further stage has twice as many.
        noise: Share of the cells that the network does not see, and is to give back.
        n_epochs: Passes over the rows.

    Masci, Meier, Cireşan and Schmidhuber, "Stacked convolutional auto-encoders for hierarchical feature extraction",
    2011.
    """
    counts = {"n_components": n_components, "depth": depth, "width": width, "n_epochs": n_epochs}
    _check_autoencoder("convolutional_autoencoder", noise, **counts)
    return ConvolutionalAutoencoder(n_components=n_components, depth=depth, width=width, noise=noise, n_epochs=n_epochs)


class CappedSVD(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A truncated SVD with at most one component fewer than there are columns; a single column stays as it is.

    Attributes:
        svd_: The fitted decomposition; None for a single column.
    """

    def __init__(self, *, n_components: int = 32, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: NDArray[Any], y: NDArray[Any] | None = None) -> CappedSVD:
        n_components = min(self.n_components, X.shape[1] - 1)
        self.svd_ = TruncatedSVD(n_components, random_state=self.random_state).fit(X) if n_components > 0 else None
        return self

    def transform(self, X: NDArray[Any]) -> NDArray[np.floating[Any]]:
        """Returns the components, or the single column; (rows, n_components)."""
        return X if self.svd_ is None else self.svd_.transform(X)


class Directions(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A linear map, whatever it was found by; columns that nothing can be found for stay as they are.

    Attributes:
        mean_: What is taken off the columns first; (columns,).
        components_: One direction a row; (n_components, columns).
    """

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> Directions:
        self.mean_, self.components_ = np.zeros(X.shape[1]), np.eye(X.shape[1])
        found = self._found(X, y)
        if found is not None:
            self.mean_, self.components_ = found
        self.notes_ = ("the columns are left as they are, too alike or too few",) if found is None else ()
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the components; (rows, n_components)."""
        moved: NDArray[np.float64] = (X - self.mean_) @ self.components_.T
        return moved

    def _found(
        self, X: NDArray[np.float64], y: NDArray[Any] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Returns mean and components, None where there are none to be found."""
        raise NotImplementedError


class IndependentComponents(Directions):
    """FastICA on whitened principal components, as many as there are that are no rounding."""

    def __init__(self, *, n_components: int = 16, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def _found(
        self, X: NDArray[np.float64], y: NDArray[Any] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        X = X[sample_rows(len(X), MAX_FIT_ROWS, self.random_state)]
        mean, directions, deviations = _principal(X, self.n_components, self.random_state)
        if len(directions) == 0:
            return None
        whitening = directions / deviations[:, None]
        ica = FastICA(whiten=False, tol=1e-3, random_state=self.random_state).fit((X - mean) @ whitening.T)
        return mean, ica.components_ @ whitening


class RandomDirections(Directions):
    """scikit-learn's random projections, with fewer components than columns.

    Args:
        kind: Whether all entries are drawn, or a few, the others being 0.
    """

    def __init__(
        self,
        *,
        n_components: int = 32,
        kind: Literal["gaussian", "sparse"] = "gaussian",
        random_state: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.kind = kind
        self.random_state = random_state

    def _found(
        self, X: NDArray[np.float64], y: NDArray[Any] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

        n_components = min(self.n_components, X.shape[1] - 1)
        if n_components == 0:
            return None
        drawn = GaussianRandomProjection if self.kind == "gaussian" else SparseRandomProjection
        components = drawn(n_components, random_state=self.random_state).fit(X).components_
        return np.zeros(X.shape[1]), components if self.kind == "gaussian" else components.toarray()


class ColumnClusters(Directions):
    """Ward's clusters of the standardised columns, each of which becomes its columns' mean."""

    def __init__(self, *, n_clusters: int = 32, random_state: int | None = None) -> None:
        self.n_clusters = n_clusters
        self.random_state = random_state

    def _found(
        self, X: NDArray[np.float64], y: NDArray[Any] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        from sklearn.cluster import FeatureAgglomeration

        n_columns = X.shape[1]
        if n_columns < 2:
            return None
        mean, deviation = X.mean(axis=0), X.std(axis=0)
        weights = np.where(deviation > 0, 1 / np.where(deviation > 0, deviation, 1), 0.0)
        rows = sample_rows(len(X), MAX_CLUSTERED_ROWS, self.random_state)
        clusters = FeatureAgglomeration(min(self.n_clusters, n_columns - 1)).fit((X[rows] - mean) * weights)
        of_cluster = clusters.labels_ == np.arange(clusters.n_clusters_)[:, None]
        return mean, of_cluster * weights / of_cluster.sum(axis=1, keepdims=True)


class Discriminants(Directions):
    """Linear discriminant analysis."""

    def _found(
        self, X: NDArray[np.float64], y: NDArray[Any] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        assert y is not None
        classes, positions = np.unique(y, return_inverse=True)
        if len(classes) < 2 or len(X) <= len(classes):
            return None
        means = np.vstack([X[positions == label].mean(axis=0) for label in range(len(classes))])
        if not (X - means[positions]).any() or not np.ptp(means, axis=0).any():
            return None
        found = LinearDiscriminantAnalysis(solver="svd").fit(X, positions)
        directions = found.scalings_[:, : len(classes) - 1].T
        return (found.xbar_, directions) if len(directions) else None


class KernelComponents(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Principal components of a Gaussian kernel by Nyström's method, with means of clusters for landmarks.

    Attributes:
        landmarks_: Means of clusters of at least five training rows, or of all rows; (landmarks, columns).
        gamma_: Of the kernel.
        components_, offset_: What makes components of a row's similarities to the landmarks; (n_components,
            landmarks) and (n_components,).
    """

    def __init__(
        self,
        *,
        n_components: int = 32,
        gamma: float = 1.0,
        whiten: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.gamma = gamma
        self.whiten = whiten
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> KernelComponents:
        X = X[sample_rows(len(X), MAX_FIT_ROWS, self.random_state)]
        self.gamma_ = float(self.gamma / (X.shape[1] * (X.var() or 1.0)))
        self.landmarks_ = self._landmarks(X)
        similarity = rbf_kernel(self.landmarks_, gamma=self.gamma_)
        values, vectors = np.linalg.eigh(similarity)
        large = values > MIN_SPREAD * values[-1]
        mapping = (vectors[:, large] / np.sqrt(values[large])).T
        features = rbf_kernel(X, self.landmarks_, gamma=self.gamma_) @ mapping.T
        mean, kept, deviations = _principal(features, self.n_components, self.random_state)
        if len(kept) == 0:  # all rows are alike, and become a column of zeros
            kept, deviations = np.zeros((1, features.shape[1])), np.ones(1)
        if self.whiten:
            kept = kept / deviations[:, None]
        self.components_ = kept @ mapping
        self.offset_ = kept @ mean
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the components; (rows, n_components)."""
        similar = rbf_kernel(X, self.landmarks_, gamma=self.gamma_)
        moved: NDArray[np.float64] = similar @ self.components_.T - self.offset_
        return moved

    def _landmarks(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        n_clusters = min(max(len(X) // (2 * MIN_ROWS_A_DONOR), 1), MAX_LANDMARKS)
        found = KMeans(n_clusters, n_init=1, max_iter=20, random_state=self.random_state).fit(X)
        sizes = np.bincount(found.labels_, minlength=n_clusters)
        large: NDArray[np.float64] = found.cluster_centers_[sizes >= MIN_ROWS_A_DONOR]
        return large if len(large) else X.mean(axis=0, keepdims=True)


class Autoencoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The narrow layer of scikit-learn's multilayer perceptron, trained to give its own input back.

    Columns go through `SmoothClip` first, so that no outlier is all that is learned. A single column stays as it is.

    Args:
        noise: Share of the cells that are exchanged for those of other rows in what it is given, anew in each epoch.

    Attributes:
        weights_, biases_: Of the two layers up to the narrow one; (units before, units) and (units,) each.
    """

    def __init__(
        self,
        *,
        n_components: int = 16,
        width: int = 64,
        noise: float = 0.0,
        n_epochs: int = 20,
        random_state: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.width = width
        self.noise = noise
        self.n_epochs = n_epochs
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> Autoencoder:
        self.weights_, self.biases_ = [], []
        if X.shape[1] < 2:
            return self
        rows = X[sample_rows(len(X), MAX_CODED_ROWS, self.random_state)]
        self.scaler_ = SmoothClip().fit(rows)
        scaled = self.scaler_.transform(rows)
        narrow = min(self.n_components, X.shape[1] - 1)
        network = _perceptron(
            scaled,
            scaled,
            noise=self.noise,
            hidden_layer_sizes=(self.width, narrow, self.width),
            activation="tanh",
            alpha=0.0,
            max_iter=self.n_epochs,
            random_state=self.random_state,
        )
        self.weights_, self.biases_ = network.coefs_[:2], network.intercepts_[:2]
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the units of the narrow layer, in -1..1, or the single column; (rows, n_components)."""
        if not self.weights_:
            return X
        hidden = self.scaler_.transform(X)
        for weights, bias in zip(self.weights_, self.biases_, strict=True):
            hidden = np.tanh(hidden @ weights + bias)
        return hidden


@register("reduction", "package:umap-learn")
def umap(task: Task, *, n_components: int = 8, n_neighbors: int = 15, min_dist: float = 0.1) -> Manifold:
    """Lays rows out in few dimensions so that near ones stay near, by UMAP, which a small network then imitates.

    UMAP itself would keep the training rows, and place new ones by the rows beside them. Needs the package umap-learn,
    which takes seconds to load.

    McInnes, Healy and Melville 2018, arXiv 1802.03426; Sainburg, McInnes and Gentner, "Parametric UMAP", 2021, arXiv
    2009.12981.

    Args:
        task: Not looked at.
        n_components: Dimensions, fewer than columns.
        n_neighbors: Near rows that a row is held to.
        min_dist: How close rows may be laid, in 0..1.
    """
    within("reduction.umap.n_components", n_components, 1)
    within("reduction.umap.n_neighbors", n_neighbors, 2)
    within("reduction.umap.min_dist", min_dist, 0, 1)
    return Manifold(n_components=n_components, n_neighbors=n_neighbors, min_dist=min_dist)


class Manifold(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A multilayer perceptron that has learned where UMAP puts a sample of the training rows.

    Columns go through `SmoothClip` first. A single column, or a table of a few rows, stays as it is.

    Attributes:
        weights_, biases_: Of its layers; (units before, units) and (units,) each.
    """

    def __init__(
        self,
        *,
        n_components: int = 8,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        random_state: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.min_dist = min_dist
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> Manifold:
        self.weights_, self.biases_ = [], []
        n_components = min(self.n_components, X.shape[1] - 1)
        if n_components < 1 or len(X) < MIN_LAID_ROWS:
            return self
        from umap import UMAP

        rows = X[sample_rows(len(X), MAX_LAID_ROWS, self.random_state)]
        self.scaler_ = SmoothClip().fit(rows)
        scaled = self.scaler_.transform(rows)
        laid = UMAP(
            n_components=n_components,
            n_neighbors=min(self.n_neighbors, len(rows) - 1),
            min_dist=self.min_dist,
            init="pca",  # the usual one needs a table whose rows hang together
            n_jobs=1,
            random_state=self.random_state,
        ).fit_transform(scaled)
        deviations = laid.std(axis=0)
        laid = (laid - laid.mean(axis=0)) / np.where(deviations > 0, deviations, 1)
        network = _perceptron(scaled, laid, hidden_layer_sizes=(128, 64), max_iter=60, random_state=self.random_state)
        self.weights_, self.biases_ = network.coefs_, network.intercepts_
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns where the rows are laid, or the table as it is; (rows, n_components)."""
        if not self.weights_:
            return X
        hidden = self.scaler_.transform(X)
        for weights, bias in zip(self.weights_[:-1], self.biases_[:-1], strict=True):
            hidden = np.maximum(hidden @ weights + bias, 0)
        laid: NDArray[np.float64] = hidden @ self.weights_[-1] + self.biases_[-1]
        return laid


def _perceptron(
    rows: NDArray[np.float64], targets: NDArray[np.float64], *, noise: float = 0.0, **settings: Any
) -> MLPRegressor:
    """Returns scikit-learn's perceptron, fitted in about twenty steps an epoch.

    Args:
        rows: (rows, columns).
        targets: (rows, outputs).
        noise: Share of the cells that are exchanged for those of other rows, anew in each epoch.
        settings: Of `MLPRegressor`.
    """
    from sklearn.neural_network import MLPRegressor

    # Small tables have small batches: some steps an epoch are needed, however few the rows.
    batch_size = int(np.clip(len(rows) // 20, min(16, len(rows)), 200))
    network = MLPRegressor(batch_size=batch_size, learning_rate_init=3e-3, **settings)
    if not noise:
        return network.fit(rows, targets)
    random = np.random.default_rng(network.random_state)
    network.set_params(random_state=np.random.RandomState(network.random_state))  # else each epoch has one order
    for _ in range(network.max_iter):
        others = np.take_along_axis(rows, random.integers(len(rows), size=rows.shape), axis=0)
        network.partial_fit(np.where(random.random(rows.shape) < noise, others, rows), targets)
    return network


def _check_autoencoder(name: str, noise: float, **counts: int) -> None:
    """Raises a ConfigError where the noise is not a share below 1, or a number below 1."""
    within(f"reduction.{name}.noise", noise, 0, 0.9)
    for parameter, value in counts.items():
        within(f"reduction.{name}.{parameter}", value, 1)


def _principal(
    X: NDArray[np.float64], n_components: int, seed: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns mean, principal directions and standard deviations along them, without those that are rounding."""
    found = PCA(min(n_components, *X.shape), random_state=seed).fit(X)
    deviations = found.singular_values_ / np.sqrt(len(X))
    kept = deviations > MIN_SPREAD * deviations[0]
    return found.mean_, found.components_[kept], deviations[kept]
