"""Before the first trial: reads the table, checks everything that can be wrong, draws the splits, stores the parts."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automl import architecture, memory, metrics, plugins, portfolio, search_space, trial
from automl.components import CATALOGUES, Component
from automl.data import blocks, forecasting, leakage, neighbours, out_of_core, parts, sources, storage
from automl.data.blocks import ForecastLayout, ImageFilesLayout, Layout, NeighboursLayout
from automl.data.dataset import make_dataset
from automl.data.out_of_core import Survey
from automl.data.splits import split
from automl.documents import differences
from automl.errors import AutomlError, ConfigError, DataError, Problem, did_you_mean
from automl.preprocessing.preprocessing import Preprocessing
from automl.search_space import Option, SearchSpace
from automl.study_folder import Prepared, StudyFolder, read_json, write_json
from automl.study_spec import StudySpec, ValidationSpec
from automl.training import adapt
from automl.values import NO_TABLE, Choice, ColumnKind, Dataset, Direction, Fold, Metric, Scalar, Schema, Splits, Task

if TYPE_CHECKING:
    import pandas as pd

#: Share of a study's time that its first trials may take, about: preparation comes before, and the end is kept free.
FIRST_SHARE = 0.3
#: Rows of training and of validation that a LightningModule is tried on before the first trial.
TRIED_ROWS = 500
#: Training rows that are supposed where nobody tells.
UNKNOWN_ROWS = 10_000
#: Differences that a sentence names.
MAX_SHOWN = 5


def check(spec: StudySpec, base: Path) -> Prepared:
    """Returns what a study would work on; writes nothing.

    Raises:
        ConfigError, DataError: With everything that is wrong with components, space and data, all at once.
    """
    if _reads_own_data(spec):
        return _resolve_own_data(spec, base)
    prepared, table, _ = _resolve(spec, base)
    if isinstance(table, Survey):
        for _frame in table.frames():  # only to see whether every value is what its column is taken for
            pass
    return prepared


def prepare(spec: StudySpec, base: Path, folder: StudyFolder, plugin_names: tuple[str, ...] = ()) -> Prepared:
    """Returns what a study works on, after storing its parts and itself in the study's folder.

    Args:
        base: The folder that paths in the study are relative to.

    Raises:
        ConfigError, DataError: With everything that is wrong, all at once.
    """
    plugins.load(plugin_names)
    stored = Prepared.from_json(read_json(folder.prepared)) if folder.prepared.is_file() else None
    table: Dataset | Survey | None = None
    if _reads_own_data(spec):
        prepared = _resolve_own_data(spec, base, stored)
    else:
        prepared, table, splits = _resolve(spec, base, stored)
    if stored is not None:
        _check_same_data(stored, prepared, spec.name)
        prepared = replace(prepared, key=stored.key)
    if isinstance(table, Survey):
        storage.store(
            table.dataset, splits, folder.data, frames=table.frames(), n_shards=prepared.n_shards, seed=spec.seed
        )
    elif table is not None:
        storage.store(table, splits, folder.data)
    write_json(folder.prepared, prepared.to_json())
    write_json(folder.spec, spec.model_dump(mode="json"))
    return prepared


def _check_same_data(stored: Prepared, found: Prepared, name: str) -> None:
    """Checks that what a study worked on is what it would work on now.

    Raises:
        ConfigError: Names each difference.
    """
    changed = []
    if stored.data_digest != found.data_digest:
        changed.append(f"the table changed ({_changed_table(stored, found)})")
    elif stored.split_digest != found.split_digest:
        changed.append("the split changed")
    if stored.space != found.space:
        old, new = (prepared.space.model_dump(mode="json") for prepared in (stored, found))
        changed.append(f"the search space changed ({_first(differences(old, new))})")
    if stored.objective != found.objective:
        changed.append(f"the objective was `{stored.objective}` and is now `{found.objective}`")
    if changed:
        raise ConfigError(
            f"the study `{name}` cannot go on: since it began, {' and '.join(changed)}",
            remedy="Its trials cannot be compared with new ones. Run it as another study with `--new-name`.",
        )


def _changed_table(stored: Prepared, found: Prepared) -> str:
    old, new = (
        {
            "rows": prepared.n_search + prepared.n_test,
            "columns": {column.name: str(column.kind) for column in prepared.schema.columns},
        }
        for prepared in (stored, found)
    )
    return _first(differences(old, new)) or "rows and columns are the same, values are not"


def _first(found: Iterable[str]) -> str:
    """Returns the first few differences, and how many more there are."""
    each = list(found)
    more = f"; and {len(each) - MAX_SHOWN} more" if len(each) > MAX_SHOWN else ""
    return "; ".join(each[:MAX_SHOWN]) + more


def _resolve(spec: StudySpec, base: Path, stored: Prepared | None = None) -> tuple[Prepared, Dataset | Survey, Splits]:
    """Returns what a study works on, its table and its splits; `stored` is what it worked on before."""
    problems: list[Problem] = []
    space, where = None, spec.search_space
    if spec.search_space != "auto":  # a wrong space is told together with wrong data
        try:
            path = search_space.find(spec.search_space, base)
            space, where = search_space.load(path), str(path)
            problems += space.check(CATALOGUES, where=where)
        except ConfigError as error:
            problems += error.problems
    table = dataset = None
    try:
        table = _read(spec, base, stored)
        dataset = table.dataset if isinstance(table, Survey) else table
        metric = _objective(spec, space, dataset.schema)
    except AutomlError as error:
        problems += error.problems
    if problems or table is None or dataset is None:
        raise (DataError if dataset is None and space is not None else ConfigError)(problems)
    schema = dataset.schema
    if space is None:
        path = search_space.auto(schema)
        space, where = search_space.load(path), str(path)
    space = space.for_target(schema.target, CATALOGUES)
    known, written = None if spec.defaults else _portfolio(space, path), space
    modules = _modules(space)
    space, space_notes = space.for_data(schema)
    problems = space.check(CATALOGUES, where=where)
    problems += Preprocessing.check(
        [(s.stage, [o.name for o in s.options]) for s in space.preprocessing],
        schema,
        where=where,
        tokens=any("tokens" in component.traits for component in _known(space.network, "network")),
    )
    problems += _check_tasks(space, schema, where)
    problems += _check_blocks(space, schema, where)
    problems += _check_domains(space, schema, where)
    problems += _check_modules(spec, written, modules, metric, where)
    if problems:
        raise ConfigError(problems)
    splits = _split(spec, dataset, stored)
    if metric.needs == "logged":
        space_notes += [
            f"`{metric.name}` is logged by the module, so there is nothing to compare reference models by or to choose "
            "an ensemble by: the best trial alone is shipped"
        ]
    n_shards, suspicions = 1, []
    if isinstance(table, Survey):
        n_shards = stored.n_shards if stored else table.n_shards(memory.available())
        if problems := _check_shards(space, where):
            raise ConfigError(problems)
    else:
        suspicions = [
            *leakage.copies_of_target(table),
            *leakage.shared_rows(table, splits),
            *leakage.repeats(table),
        ]
        if stored is None:
            _try_modules(space, modules, metric, table, splits, spec.seed)
    points: list[portfolio.Point] = []
    if known is not None:  # who has narrowed a copy of a space has the points that are left
        traits = portfolio.Traits.of(schema, len(splits.folds[0].train))
        ordered = known.order(traits, _first_seconds(spec, len(splits.folds)))
        points = [point for point in ordered if written.holds(point)]
    prepared = Prepared(
        schema=schema,
        objective=metric.name,
        key=uuid.uuid4().hex,
        direction=metric.direction,
        space=space,
        space_name=path.stem,
        starts=_starts(spec, space, points),
        source=dataset.source,
        base=str(base),
        data_digest=dataset.digest,
        split_digest=splits.digest,
        n_search=len(splits.search),
        n_train=len(splits.folds[0].train),
        n_val=len(splits.folds[0].val),
        n_test=len(splits.test),
        n_folds=len(splits.folds),
        n_shards=n_shards,
        notes=(*dataset.notes, *space_notes, *suspicions),
        modules=modules,
        is_logged=metric.needs == "logged",
    )
    return prepared, table, splits


# --- a user's own LightningModule --------------------------------------------------------------------------------


def _reads_own_data(spec: StudySpec) -> bool:
    """Returns whether a study names a LightningDataModule in place of a table."""
    sources_ = CATALOGUES["source"]
    return spec.data.source in sources_ and sources_[spec.data.source].is_data_module


def _resolve_own_data(spec: StudySpec, base: Path, stored: Prepared | None = None) -> Prepared:
    """Returns what a study works on whose modules are fed by a LightningDataModule: there is no table.

    Raises:
        ConfigError: With everything that is wrong, all at once.
        ModuleError: With what a trial would fail of.
    """
    problems: list[Problem] = []
    try:
        sources.check_params(spec.data.source, spec.data.params)
    except AutomlError as error:
        problems += error.problems
    of_tables: dict[str, Any] = {
        "data.target": spec.data.target,
        "data.positive": spec.data.positive,
        "data.kinds": spec.data.kinds,
        "data.domain": spec.data.domain,
        "blocks": spec.blocks,
        "forecast": spec.forecast,
        "neighbours": spec.neighbours,
        "task": spec.task != "auto",
        "validation": spec.validation != ValidationSpec(),
    }
    what = f"is for tables, and `{spec.data.source}` is a LightningDataModule"
    problems += [Problem(what, key, "Leave it out.") for key, value in of_tables.items() if value]
    objective = "a metric that the module logs"
    if spec.objective == "auto":
        problems.append(Problem("is missing", "objective", f"Name {objective}, such as `val_loss`."))
    if spec.direction is None:
        problems.append(Problem("is missing", "direction", f"The objective is {objective}: `minimize` or `maximize`?"))
    space = None
    try:
        if spec.search_space == "auto":
            raise ConfigError("`auto` is for tables", where="search_space", remedy="Name one that holds your module.")
        path = search_space.find(spec.search_space, base)
        space = search_space.load(path)
        problems += space.check(CATALOGUES, where=str(path))
        problems += _check_own_space(space, str(path))
    except AutomlError as error:
        problems += error.problems
    if problems or space is None or spec.direction is None:
        raise ConfigError(problems)
    modules = _modules(space)
    metric = metrics.logged(spec.objective, Direction(spec.direction))
    problems = _check_modules(spec, space, modules, metric, str(path))
    if problems:
        raise ConfigError(problems)
    data_module = Choice(spec.data.source, spec.data.params)
    n_train = stored.n_train if stored else 0
    if stored is None:
        for name in modules:
            parameters = space.defaults(CATALOGUES, {"network": name})
            configuration = space.configuration(parameters, modules)
            n_train = adapt.attempt(configuration, data_module, metric, seed=spec.seed)
    digest = hashlib.sha256(json.dumps([data_module.name, dict(data_module.params)], sort_keys=True).encode())
    return Prepared(
        schema=NO_TABLE,
        objective=metric.name,
        key=uuid.uuid4().hex,
        direction=metric.direction,
        space=space,
        space_name=path.stem,
        starts=_starts(spec, space),
        source=data_module.name,
        base=str(base),
        data_digest=digest.hexdigest(),
        split_digest=digest.hexdigest(),
        n_search=0,
        n_train=n_train or UNKNOWN_ROWS,
        n_val=0,
        n_test=0,
        n_folds=1,
        notes=(
            f"`{data_module.name}` is read anew by each trial: whether its data change between trials, nobody sees",
        ),
        modules=modules,
        is_logged=True,
        data_module=data_module,
    )


def _check_own_space(space: SearchSpace, where: str) -> list[Problem]:
    """Returns what of a search space is for tables alone."""
    problems = []
    if space.preprocessing:
        remedy = "The LightningDataModule does what is to be done."
        problems.append(Problem("is for tables", f"{where}: preprocessing", remedy))
    for option in space.network:
        if option.name in CATALOGUES["network"] and not CATALOGUES["network"][option.name].is_module:
            what = f"`{option.name}` reads tables, and there is none"
            problems.append(Problem(what, f"{where}: network", "Name LightningModules alone."))
        for name, distribution in option.params.items():
            if isinstance(distribution, search_space.FromData):
                what = f"there is no table that could tell `{distribution.value}`"
                problems.append(Problem(what, f"{where}: network.{option.name}.{name}", "Give it a value."))
    return problems


def _modules(space: SearchSpace) -> tuple[str, ...]:
    """Returns the networks of a space that are LightningModules."""
    known = CATALOGUES["network"]
    return tuple(option.name for option in space.network if option.name in known and known[option.name].is_module)


def _objective(spec: StudySpec, space: SearchSpace | None, schema: Schema) -> Metric:
    """Returns what a study is about: a metric of ours, or one that a LightningModule logs."""
    if spec.direction is not None:
        if spec.objective == "auto":
            raise ConfigError("is missing", where="objective", remedy="`direction` is of a metric that a module logs.")
        return metrics.logged(spec.objective, Direction(spec.direction))
    if spec.objective == "auto":
        return metrics.default_metric(schema.target)
    try:
        return metrics.metric(spec.objective, schema.target)
    except ConfigError as error:
        if space is None or not _modules(space):
            raise
        hint = "If it is a metric that your module logs, say its `direction`: `minimize` or `maximize`."
        raise ConfigError([replace(p, remedy=f"{p.remedy} {hint}".strip()) for p in error.problems]) from None


def _check_modules(
    spec: StudySpec, space: SearchSpace, modules: Sequence[str], metric: Metric, where: str
) -> list[Problem]:
    """Returns what does not go together with networks that are LightningModules, and what does with them alone."""
    problems = []
    others = [option.name for option in space.network if option.name not in modules]
    if spec.trainer.devices > 1 and others:
        what = f"is {spec.trainer.devices}, and `{others[0]}` trains on one device"
        remedy = "Several devices are for LightningModules of your own alone; more workers train more trials at a time."
        problems.append(Problem(what, "trainer.devices", remedy))
    if metric.needs == "logged":
        problems += [
            Problem(f"`{name}` logs no `{metric.name}`", f"{where}: network", "Only a LightningModule logs metrics.")
            for name in others
            if name in CATALOGUES["network"]
        ]
    if modules and not others:
        brought = [place for place in search_space.BROUGHT if place in space.model_fields_set and getattr(space, place)]
        problems += [
            Problem(f"`{modules[0]}` brings its own", f"{where}: {place}", "Leave it out.") for place in brought
        ]
    return problems


def _try_modules(
    space: SearchSpace, modules: Sequence[str], metric: Metric, table: Dataset, splits: Splits, seed: int
) -> None:
    """Takes one batch of each LightningModule through its training, so that what is wrong is told before all trials.

    Raises:
        ModuleError: With what a trial would fail of.
    """
    fold, rng = splits.folds[0], np.random.default_rng(seed)
    train, val = (
        np.sort(rng.choice(rows, min(len(rows), TRIED_ROWS), replace=False)) for rows in (fold.train, fold.val)
    )
    rows = splits.search[np.concatenate([train, val])]
    few = Fold(np.arange(len(train)), np.arange(len(train), len(rows)))
    for name in modules:
        configuration = space.configuration(space.defaults(CATALOGUES, {"network": name}), modules)
        features = table.features.iloc[rows].reset_index(drop=True)
        try:
            data, _ = trial.prepare(configuration, table.schema, features, table.target[rows], few, seed)
        except DataError:  # of so few rows
            continue
        adapt.attempt(configuration, data, metric, seed=seed)


def _starts(spec: StudySpec, space: SearchSpace, points: Sequence[portfolio.Point] = ()) -> list[dict[str, Scalar]]:
    """Returns the first points of the search, or the only one."""
    return [space.defaults(CATALOGUES)] if spec.defaults else space.starts(CATALOGUES, points)


def _portfolio(space: SearchSpace, path: Path) -> portfolio.Portfolio | None:
    """Returns the portfolio that a search space names, from beside its file or as it comes with the package."""
    if space.portfolio is None:
        return None
    return portfolio.load(space.portfolio, [path.parent, search_space.bundled()])


def _first_seconds(spec: StudySpec, n_folds: int) -> float:
    """Returns about how many seconds the first trials of a study have for each fold."""
    total, trial = spec.budget.time, spec.budget.trial_time
    return min(FIRST_SHARE * (total or math.inf), trial or math.inf) / n_folds


def _check_tasks(space: SearchSpace, schema: Schema, where: str) -> list[Problem]:
    """Returns the losses, and the ways to draw batches, that are not for the task; of several, for none of them."""
    target = schema.target
    kinds = {"loss": {head.task.kind for head in target.heads}, "batches": {target.task.kind}}
    problems = []
    for place, options in (("loss", space.loss or []), ("batches", space.batches)):
        known = CATALOGUES[place]
        suitable = [one.name for one in known if search_space.is_for_task(one.traits, kinds[place])]
        problems += [
            Problem(
                f"the {'loss' if place == 'loss' else 'option'} `{option.name}` is not for a {target.task} task",
                f"{where}: {place}",
                f"Known for it: {', '.join(f'`{name}`' for name in suitable)}.",
            )
            for option in options
            if option.name in known and option.name not in suitable
        ]
    return problems


def _check_shards(space: SearchSpace, where: str) -> list[Problem]:
    """Returns what would begin anew with each part of a table on disk, in each epoch."""
    what = "a network, and would train it for each part of a table that does not fit into memory, in each epoch"
    return [
        Problem(f"`{component.name}` makes rows up by {what}", f"{where}: preprocessing.{stage.stage}", "Leave it out.")
        for stage in space.preprocessing
        for component in _known(stage.options, stage.stage)
        if "takes_seconds" in component.traits
    ]


def _check_blocks(space: SearchSpace, schema: Schema, where: str) -> list[Problem]:
    """Returns what is for kinds of blocks of which the table has none, or of which a reduction leaves none."""
    reducers = [
        component
        for stage in space.preprocessing
        if stage.stage == "reduction"
        for component in _known(stage.options, "reduction")
        if component.traits.intersection(architecture.STRUCTURED)
    ]
    reduced = {kind for component in reducers for kind in component.traits}
    left = replace(schema, blocks=tuple(block for block in schema.blocks if block.kind not in reduced))
    problems = []
    for place, components in (
        ("network", _known(space.network, "network")),
        ("augmentation", _known(space.augmentation, "augmentation")),
        ("reduction", reducers),
    ):
        for component in components:
            kinds = " or ".join(sorted(component.traits.intersection(architecture.STRUCTURED)))
            told = f"the {place} `{component.name}` is for {kinds}"
            if not architecture.is_for(component, schema):
                remedy = "Say under `blocks` which columns belong together, or leave it out."
                problems.append(Problem(f"{told}, and the table has none", f"{where}: {place}", remedy))
            elif component not in reducers and not architecture.is_for(component, left):
                gone = f"{told}, of which the reduction `{reducers[0].name}` leaves none"
                problems.append(Problem(gone, f"{where}: {place}", "Leave one of the two out."))
    return problems


def _known(options: Sequence[Option], place: str) -> list[Component]:
    """Returns the components of the options; what is not known is told elsewhere."""
    return [CATALOGUES[place][option.name] for option in options if option.name in CATALOGUES[place]]


def _check_domains(space: SearchSpace, schema: Schema, where: str) -> list[Problem]:
    """Returns what is searched of domains although the table has none."""
    wanted = [option.name for option in space.domain or () if option.name != "none"]
    if not wanted or schema.names(ColumnKind.DOMAIN):
        return []
    remedy = "Name the column of domains under `data.domain`, or leave it out."
    return [Problem(f"the domain `{wanted[0]}` needs domains", f"{where}: domain", remedy)]


def _read(spec: StudySpec, base: Path, stored: Prepared | None) -> Dataset | Survey:
    data, column = spec.data, spec.validation.column
    if data.target is None:
        raise ConfigError("is missing", where="data.target", remedy="Name the column to predict.")
    described: dict[str, Any] = {
        "target": data.target,
        "task": spec.wanted_task(),
        "name": spec.name,
        "positive": data.positive,
        "kinds": data.kinds,
        "split_columns": [column] if column else [],
        "domain": data.domain,
    }
    described_blocks = layouts(spec, base)
    parts.check_size(data.source, data.params, base, data.max_size)
    if spec.forecast is not None:
        return _read_series(spec, base, spec.forecast.layout())
    wanted = data.out_of_core if spec.neighbours is None else False
    if wanted == "auto" and stored is not None:  # what memory is free now changes nothing in a study that goes on
        wanted = stored.n_shards > 1
    if wanted == "auto":
        wanted = out_of_core.needed(data.source, data.params, base, memory.available())
    frame = None if wanted else sources.read(data.source, data.params, base)
    is_asked = data.out_of_core == "auto" and stored is None and spec.neighbours is None
    if frame is not None and is_asked and data.source in parts.READERS:
        wanted = out_of_core.needed_for_images(frame, described_blocks, memory.available())
    if frame is None or wanted:
        return out_of_core.survey(data.source, data.params, base, seed=spec.seed, blocks=described_blocks, **described)
    frame, described_blocks = blocks.folded(frame, described_blocks)
    described |= {"blocks": described_blocks}
    if spec.neighbours is not None:
        return _read_graph(frame, spec, base, spec.neighbours.layout(), described)
    return make_dataset(frame, source=sources.describe(data.source, data.params), **described)


def layouts(spec: StudySpec, base: Path) -> list[Layout]:
    """Returns what a study says of blocks; of a folder of images, what it need not say.

    Raises:
        ConfigError: With every path that leads out of the study's folder.
    """
    images = base
    if spec.data.source == "folder":
        sources.check_params("folder", spec.data.params)
        images = sources.existing(base, str(spec.data.params["path"]), deep=False)
    found: list[Layout] = []
    problems: list[Problem] = []
    for number, block in enumerate(spec.blocks):
        try:
            found.append(block.layout(base, f"blocks.{number}", images))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    if spec.data.source == "folder" and sources.IMAGE not in blocks.key_columns(found):
        found.append(ImageFilesLayout(sources.IMAGE, images))
    return found


def _read_graph(
    frame: pd.DataFrame, spec: StudySpec, base: Path, layout: NeighboursLayout, described: dict[str, Any]
) -> Dataset:
    """Returns a table with what its rows' neighbours are like beside what they are."""
    if layout.id not in frame.columns:
        remedy = did_you_mean(layout.id, [str(name) for name in frame.columns])
        raise DataError(f"there is no column `{layout.id}`", where="neighbours.id", remedy=remedy)
    data = spec.data
    targets = [data.target] if isinstance(data.target, str) else data.target or []
    no_features = [name for name in (*targets, spec.validation.column, data.domain) if name]
    if layout.id in no_features:
        raise ConfigError(f"the column `{layout.id}` has another meaning already", where="neighbours.id")
    edges = neighbours.read_edges(base, layout)
    told = neighbours.describe(frame, layout, no_features, data.kinds)
    notes = neighbours.check(frame, edges, told, layout.file)
    kinds = {layout.id: ColumnKind.IDENTIFIER, **data.kinds}
    dataset = make_dataset(
        neighbours.joined(frame, edges, told),
        source=sources.describe(data.source, data.params),
        **{**described, "kinds": kinds},
    )
    schema = replace(dataset.schema, neighbours=told)
    return replace(dataset, schema=schema, notes=(*notes, *dataset.notes))


def _read_series(spec: StudySpec, base: Path, layout: ForecastLayout) -> Dataset:
    """Returns the windows of the series that a study forecasts."""
    data = spec.data
    assert isinstance(data.target, str)  # a study of several is refused by its file
    made = forecasting.windows(sources.read(data.source, data.params, base), data.target, layout, data.kinds)
    dataset = make_dataset(
        made.frame,
        target=data.target,
        task=Task.REGRESSION if spec.task == "auto" else spec.wanted_task(),
        name=spec.name,
        source=sources.describe(data.source, data.params),
        positive=data.positive,
        kinds=made.kinds,
        split_columns=forecasting.STEERING,
        blocks=made.blocks,
    )
    schema = replace(dataset.schema, forecast=made.forecast)
    return replace(dataset, schema=schema, notes=(*made.notes, *dataset.notes))


def _split(spec: StudySpec, dataset: Dataset, stored: Prepared | None) -> Splits:
    cut = spec.validation
    n_rows = len(dataset.target)
    if dataset.extra is not None and spec.forecast is not None:  # many rows are about the same
        n_rows = dataset.extra[forecasting.MOMENT].nunique()
    test_size = cut.test_share(n_rows)
    n_search = round(n_rows * (1 - test_size))
    n_folds = cut.folds(n_search, spec.budget.time)
    if spec.forecast is not None and cut.strategy == "auto":  # what is shipped has then seen the latest rows
        n_folds = cut.n_folds
    if cut.strategy == "domain" and dataset.extra is not None and n_folds and not cut.n_folds:
        n_domains = round(dataset.extra[spec.data.domain].nunique() * (1 - test_size))
        n_folds = min(n_folds, n_domains - 1) if n_domains > 2 else None
    # One that goes on may have more time, and keeps its folds.
    if stored is not None and cut.strategy in ("auto", "domain"):
        n_folds = stored.n_folds if stored.n_folds > 1 else None
    return split(
        dataset,
        strategy="kfold" if n_folds else "holdout",
        size=cut.share(n_search),
        test_size=test_size,
        n_folds=n_folds or 5,
        group={"group": cut.column, "domain": spec.data.domain}.get(cut.strategy),
        time=cut.column if cut.strategy == "time" else None,
        gap=cut.gap,
        ahead=forecasting.STEERING if spec.forecast is not None else None,
        seed=spec.seed,
    )
