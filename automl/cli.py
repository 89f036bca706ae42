"""The command line: parse, call one function, print. Heavy imports stand inside the commands.

stdout is data, stderr is progress and log. Exit codes: 0 done, 1 no trial succeeded, 2 usage, configuration or data,
3 tracking or storage, 4 resources, 5 refused, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import os
import shutil
import sys
import time as time_
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl.errors import AutomlError, ConfigError, Problem, StorageError, disk_full
from automl.redaction import redact

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.table import Table

    from automl.study_spec import StudySpec

#: The study's time counts from here: what a person waits for includes the imports.
BEGAN = time_.monotonic()

app = typer.Typer(
    name="automl",
    help="Search preprocessing, network, optimizer and learning rate together; everything goes to MLflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow; else MLFLOW_TRACKING_URI, else mlflow.db in this folder."),
]
Plugin = Annotated[list[str], typer.Option("--plugin", help="A module that registers components; may be repeated.")]
ModelArgument = Annotated[str, typer.Argument(help="A study, a run id, models:/NAME@alias, or a model folder.")]
MaxSize = Annotated[
    str | None, typer.Option(help="Size of the table, unpacked, above which it is not read; 20GB by default.")
]
TaskName = Annotated[
    str | None, typer.Option(help="binary, multiclass, regression, quantile; of several multilabel or multitask.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only.")]

#: What typer raises for wrong arguments. It brings a click of its own, so the package `click` has other classes.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"automl {version('automl-platform')}")
        raise typer.Exit


@app.callback()
def automl(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Search preprocessing, network, optimizer and learning rate together; everything goes to MLflow."""


@app.command()
def run(
    study: Annotated[Path | None, typer.Argument(help="A study's YAML file.", show_default=False)] = None,
    data: Annotated[Path | None, typer.Option(help="A table instead of a study file.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="The column to predict; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="The study's name.")] = None,
    new_name: Annotated[bool, typer.Option("--new-name", help="Begin anew, as NAME-2 if there is a NAME.")] = False,
    time: Annotated[str | None, typer.Option(help="Time for everything, such as 90s, 10m, 2h.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at a time; as many as cores.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is random.")] = None,
    space: Annotated[str | None, typer.Option(help="Search space: a name or a file.")] = None,
    metric: Annotated[str | None, typer.Option(help="What is optimised.")] = None,
    task: TaskName = None,
    test_size: Annotated[float | None, typer.Option(help="Share of the rows kept for a test score; 0: none.")] = None,
    deliver: Annotated[str | None, typer.Option(help="ensemble, networks or single.")] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Train the defaults once, and search nothing.")] = False,
    max_size: MaxSize = None,
    plugin: Plugin = [],  # noqa: B006
    tracking_uri: TrackingUri = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave nothing behind, in MLflow or on disk.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line for every trial.")] = False,
) -> None:
    """Run a study, or go on with it: automl run STUDY.yaml, or automl run --data FILE --target COLUMN."""
    overrides = {
        "name": ("--name", name),
        "budget.time": ("--time", time),
        "budget.trials": ("--trials", trials),
        "seed": ("--seed", seed),
        "search_space": ("--space", space),
        "objective": ("--metric", metric),
        "task": ("--task", task),
        "validation.test_size": ("--test-size", test_size),
        "deliver": ("--deliver", deliver),
        "defaults": ("--defaults", defaults or None),
        "data.max_size": ("--max-size", max_size),
    }
    from automl import isolation, study_folder

    isolation.warm_up()  # takes seconds, which this process needs as well to read and check
    spec, base = _spec(study, data, target, overrides)
    if new_name:
        spec = spec.model_copy(update={"name": study_folder.unused_name(spec.name)})
    _run(spec, base, workers, plugin, tracking_uri, dry_run, as_json, quiet, verbose)


@app.command()
def resume(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    time: Annotated[str | None, typer.Option(help="New time for everything, earlier runs included.")] = None,
    trials: Annotated[int | None, typer.Option(help="New number of trials, earlier ones included.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at a time; as many as cores.")] = None,
    plugin: Plugin = [],  # noqa: B006
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line for every trial.")] = False,
) -> None:
    """Go on with a study that was interrupted, or give it a larger budget."""
    from automl import study_spec
    from automl.study_folder import Prepared, existing, read_json

    folder = existing(study)
    overrides = {"budget.time": ("--time", time), "budget.trials": ("--trials", trials)}
    spec = study_spec.build(read_json(folder.spec), where=str(folder.spec), overrides=_given(overrides))
    base = Path(Prepared.from_json(read_json(folder.prepared)).base)
    _run(spec, base, workers, plugin, tracking_uri, False, as_json, quiet, verbose)


@app.command()
def check(
    study: Annotated[Path | None, typer.Argument(help="A study's YAML file.", show_default=False)] = None,
    data: Annotated[Path | None, typer.Option(help="A table instead of a study file.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="The column to predict; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="The study's name.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that is random.")] = None,
    space: Annotated[str | None, typer.Option(help="Search space: a name or a file.")] = None,
    metric: Annotated[str | None, typer.Option(help="What is optimised.")] = None,
    task: TaskName = None,
    test_size: Annotated[float | None, typer.Option(help="Share of the rows kept for a test score; 0: none.")] = None,
    max_size: MaxSize = None,
    plugin: Plugin = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Tell everything that is wrong with a study, or what it would work on; trains nothing."""
    from automl import plugins, preparation, report

    overrides = {
        "name": ("--name", name),
        "seed": ("--seed", seed),
        "search_space": ("--space", space),
        "objective": ("--metric", metric),
        "task": ("--task", task),
        "validation.test_size": ("--test-size", test_size),
        "data.max_size": ("--max-size", max_size),
    }
    spec, base = _spec(study, data, target, overrides)
    plugins.require(spec.plugins, plugins.load(plugin), where=str(study))
    prepared = preparation.check(spec, base)
    if as_json:
        document = prepared.to_json()
        report.print_json({"schema_version": 1, "study": spec.name, **document})
        return
    print(report.describe(spec, prepared))
    for column in (column for column in prepared.schema.columns if not column.kind.is_of_block):
        print(f"  {column.name}: {column.kind}, {column.n_missing} missing, {column.n_unique} distinct")
    for block in prepared.schema.blocks:
        if block.reading is not None:
            shape = " x ".join(map(str, block.shape))
            print(f"  {block.name}: {block.kind} of {shape}, one for each `{block.reading.key}`")
        else:
            print(f"  {block.name}: {block.kind} of `{block.columns[0]}` to `{block.columns[-1]}`, row by row")
    for note in prepared.notes:
        print(f"note: {note}")
    print("nothing is wrong")


@app.command()
def studies(as_json: AsJson = False) -> None:
    """List the studies of this folder."""
    from automl import report, search, study_folder
    from automl.values import TrialState

    rows = []
    for name in study_folder.names():
        folder = study_folder.existing(name)
        trials = search.look(folder, name)
        document = study_folder.read_json(folder.result) if folder.result.is_file() else None
        complete = sum(trial.state is TrialState.COMPLETE for trial in trials)
        rows.append(
            {
                "study": name,
                "status": "running" if folder.is_locked() else document["status"] if document else "unfinished",
                "trials": len(trials),
                "complete": complete,
                "metric": document["metric"]["name"] if document else None,
                "validation": document["validation"] if document else None,
                "test": document["test"] if document else None,
            }
        )
    if as_json:
        report.print_json({"schema_version": 1, "studies": rows})
    elif not rows:
        print(f"no studies under {study_folder.state_folder()}; begin one: automl run --data FILE --target COLUMN")
    else:
        cells = [[report.number(v) if isinstance(v, float) else v or "" for v in row.values()] for row in rows]
        _print(report.table("studies", list(rows[0]), cells))


@app.command()
def show(study: Annotated[str, typer.Argument(help="The study's name.")], as_json: AsJson = False) -> None:
    """Show a study: leaderboard, references, the best configuration."""
    from automl import report, search, study_folder

    folder = study_folder.existing(study)
    if not folder.result.is_file():
        trials = search.look(folder, study)
        raise ConfigError(
            f"the study `{study}` has no result yet; {_n(len(trials), 'trial')} ended so far",
            remedy=f"Finish it: automl resume {study}",
        )
    document = study_folder.read_json(folder.result)
    if as_json:
        report.print_json(document)
        return
    _print(report.leaderboard_table(document))
    best = document["best"]
    _print(
        report.table(f"configuration of trial {best['number']}", ("parameter", "value"), best["configuration"].items())
    )
    base = Path(study_folder.read_json(folder.prepared)["base"])
    table = _table(study_folder.read_json(folder.spec), base)
    print("\n".join(report.summary_lines(document, program=_program(), data=table)))


@app.command()
def predict(
    model: ModelArgument,
    data: Annotated[
        Path,
        typer.Argument(
            help="A table: csv, parquet, arrow or json lines; a folder of images; rows of a LightningModule (.npy)."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .parquet, .csv or .json file.")],
    files: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PLACE: where the block NAME is read from, a folder of images or a file of sequences; else as in "
            "the study, or beside the table. May be repeated."
        ),
    ] = None,
    edges: Annotated[Path | None, typer.Option(help="A table of the edges between these rows.")] = None,
    tracking_uri: TrackingUri = None,
    plugin: Plugin = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Predict on a table: one row per row, in the same order; of a history, what is ahead of it."""
    from automl import model_source, plugins, prediction, report

    plugins.load(plugin)
    read_as, usual = _as_in_study(model)
    given = _places(files or [])
    with model_source.open_model(model, _tracking_uri(tracking_uri)) as folder:
        predicted = prediction.predict_file(folder, data, output, read_as, files=given, usual_files=usual, edges=edges)
    if as_json:
        rows, notes = predicted.n_rows, list(predicted.notes)
        report.print_json({"schema_version": 1, "model": model, "rows": rows, "output": str(output), "notes": notes})
    else:
        print("\n".join([*predicted.notes, f"{_n(predicted.n_rows, 'row')} written to {output}"]), file=sys.stderr)


@app.command()
def promote(
    study: Annotated[str, typer.Argument(help="The study whose model is promoted.")],
    model: Annotated[str, typer.Option(help="Name of the registered model.")],
    alias: Annotated[str, typer.Option(help="Alias that moves to it.")] = "champion",
    tracking_uri: TrackingUri = None,
    plugin: Plugin = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Register a study's model and move the alias to it, if every gate opens."""
    from automl import plugins, promotion, report
    from automl.study_folder import existing
    from automl.tracking.mlflow_tracker import MlflowTracker

    plugins.load(plugin)
    evidence = promotion.promote(existing(study), model, alias, MlflowTracker(_tracking_uri(tracking_uri)))
    if as_json:
        report.print_json({"schema_version": 1, **evidence})
    else:
        for gate in evidence["gates"]:
            print(f"{'passed' if gate['passed'] else 'FAILED'}  {gate['name']}: {gate['found']}")
        print(f"models:/{model}@{alias} is version {evidence['version']}")


@app.command()
def rollback(
    model: Annotated[str, typer.Argument(help="Name of the registered model.")],
    alias: Annotated[str, typer.Option(help="Alias that moves back.")] = "champion",
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Move an alias back to the version that had it before."""
    from automl import promotion, report
    from automl.tracking.mlflow_tracker import MlflowTracker

    moved = promotion.rollback(model, alias, MlflowTracker(_tracking_uri(tracking_uri)))
    if as_json:
        report.print_json({"schema_version": 1, **moved})
    else:
        print(f"models:/{model}@{alias} is version {moved['version']} again (was {moved['previous']})")


@app.command()
def verify(
    model: ModelArgument,
    signature: Annotated[Path | None, typer.Option(help="A file that `automl sign` made.")] = None,
    public_key: Annotated[Path | None, typer.Option(help="PEM file of whoever signed it.")] = None,
    tracking_uri: TrackingUri = None,
    plugin: Plugin = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Check every file of a model against its manifest, and its signature; then load it and predict a made-up row."""
    from automl import model_source, plugins, prediction, report, signing

    if (signature is None) is not (public_key is None):
        raise ConfigError("a signature is checked with a key", where="--signature, --public-key", remedy="Give both.")
    plugins.load(plugin)
    with model_source.open_model(model, _tracking_uri(tracking_uri)) as folder:
        if signature is not None and public_key is not None:  # before anything in the folder is loaded
            signing.check(folder, signature, public_key)
        found = prediction.prove(folder)
    found |= {"signed": signature is not None}
    if as_json:
        report.print_json({"schema_version": 1, "model": model, **found})
    else:
        signed = ", which the key has signed" if signature is not None else ""
        print(
            f"{model}: {found['files']} files match the manifest {found['digest'][:12]}{signed}; it loads and predicts"
        )


@app.command()
def sign(
    model: ModelArgument,
    key: Annotated[Path, typer.Option(help="PEM file with an Ed25519 private key.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the signature.")],
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Sign a model, so that others can tell whose it is: automl verify --signature FILE --public-key FILE."""
    from automl import model_source, report, signing

    with model_source.open_model(model, _tracking_uri(tracking_uri)) as folder:
        digest = signing.sign(folder, key, output)
    if as_json:
        report.print_json({"schema_version": 1, "model": model, "digest": digest, "signature": str(output)})
    else:
        print(f"{model}: signature of the manifest {digest[:12]} written to {output}")


@app.command()
def export(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder that does not exist yet.")],
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Copy a verified model folder: it needs neither the study nor MLflow's server."""
    from automl import model_source, report

    with model_source.open_model(model, _tracking_uri(tracking_uri)) as folder:
        model_source.copy_model(folder, output)
    if as_json:
        report.print_json({"schema_version": 1, "model": model, "output": str(output)})
    else:
        print(output)


@app.command()
def components(
    kind: Annotated[str | None, typer.Argument(help="network, optimizer, imputation, metric, ...")] = None,
    plugin: Plugin = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """List what a search space can name, with hyperparameters and defaults."""
    from automl import listing, plugins, report

    plugins.load(plugin)
    rows = listing.components(kind)
    if as_json:
        report.print_json({"schema_version": 1, "components": rows})
    else:
        shown = [(row["kind"], row["name"], listing.parameters(row), row["summary"]) for row in rows]
        _print(report.table("components", ("kind", "name", "hyperparameters", "what"), shown))


@app.command()
def schema(
    what: Annotated[str, typer.Argument(help="study or search_space")],
) -> None:
    """Print the JSON Schema of a file, for completion and checking in editors."""
    from automl import report
    from automl.errors import did_you_mean
    from automl.search_space import SearchSpace
    from automl.study_spec import StudySpec

    models: dict[str, type[BaseModel]] = {"study": StudySpec, "search_space": SearchSpace}
    if what not in models:
        raise ConfigError(f"there is no schema `{what}`", remedy=did_you_mean(what, list(models)))
    report.print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **models[what].model_json_schema()})


@app.command()
def sync(tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """Send to MLflow what could not be sent before; safe to repeat."""
    from automl import report, study_folder
    from automl import study as studies_
    from automl.errors import TrackingError
    from automl.tracking.mlflow_tracker import MlflowTracker
    from automl.tracking.spool import Mirror, Spool

    tracker = MlflowTracker(_tracking_uri(tracking_uri))
    pending: dict[str, int] = {}
    rejected: dict[str, list[str]] = {}
    errors: list[Problem] = []
    for name in study_folder.names():
        folder = study_folder.existing(name)
        spool = Spool(folder.spool)
        mirror = Mirror(spool, tracker)
        pending[name] = mirror.close(timeout_s=600)
        if not folder.is_locked():  # who runs it writes its result
            studies_.update_result(folder, mirror, pending[name])
        rejected[name] = spool.rejected()
        if mirror.last_error is not None:
            errors += mirror.last_error.problems
    if as_json:
        report.print_json({"schema_version": 1, "pending": pending, "rejected": rejected})
    else:
        for name, n_pending in pending.items():
            print(f"{name}: {_n(n_pending, 'event') + ' pending' if n_pending else 'everything has been sent'}")
            for reason in dict.fromkeys(rejected[name]):
                print(f"{name}: MLflow refused something: {reason}", file=sys.stderr)
        if not pending:
            print(f"no studies under {study_folder.state_folder()}; there is nothing to send", file=sys.stderr)
    if errors:
        raise TrackingError(errors)


@app.command()
def doctor(
    study: Annotated[str | None, typer.Argument(help="The study's name; all of this folder.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be.")] = False,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether MLflow shows what happened in the studies of this folder, and what they run on."""
    from automl import doctor as doctor_
    from automl import report, study_folder
    from automl.tracking.mlflow_tracker import MlflowTracker

    names = study_folder.names() if study is None else [study]
    folders = {name: study_folder.existing(name) for name in names}
    running = [name for name, folder in folders.items() if folder.is_locked()]
    tracker = MlflowTracker(_tracking_uri(tracking_uri))
    look = doctor_.repair if repair else doctor_.examine
    found: dict[str, list[str]] = {}
    for name in [name for name in names if name not in running]:
        try:
            found[name] = look(folders[name], tracker)
        except StorageError as error:  # of one study, and the others are looked at all the same
            found[name] = [str(problem) for problem in error.problems]
    machine = doctor_.environment()
    if as_json:
        report.print_json({"schema_version": 1, "environment": machine, "running": running, "studies": found})
    else:
        for key, value in machine.items():
            print(f"{key}: {f'{value / 1e9:,.1f} GB' if key.startswith('free_') else value}")
        for name in running:
            print(f"{name}: is being run now, and was not looked at")
        for name, sentences in found.items():
            print("\n".join([f"{name}: {sentence}" for sentence in sentences] or [f"{name}: all is well"]))
    if wrong := [name for name, sentences in found.items() if sentences]:
        remedy = "What is left cannot be mended here." if repair else f"Mend it: {_program()} doctor --repair"
        raise StorageError(f"{', '.join(wrong)}: MLflow does not show what happened", remedy=remedy)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any free one.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine need a password.")] = (
        "127.0.0.1"
    ),
    tracking_uri: TrackingUri = None,
) -> None:
    """Open MLflow's own pages on the results, on this machine only unless it is told otherwise."""
    from automl.tracking.ui import serve_ui

    sys.exit(serve_ui(_tracking_uri(tracking_uri), port, host))


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except KeyboardInterrupt:
        sys.exit(130)
    except _UsageError as error:
        print(f"error: {_usage_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `automl show x | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        told = disk_full(error) or error
        if not isinstance(told, AutomlError):  # a bug, ours or a plug-in's
            print(redact(traceback.format_exc()), end="", file=sys.stderr)
            sys.exit(1)
        for problem in told.problems:
            print(f"error: {problem}", file=sys.stderr)
        sys.exit(told.exit_code)


def _spec(
    study: Path | None, data: Path | None, targets: list[str] | None, overrides: Mapping[str, tuple[str, Any]]
) -> tuple[StudySpec, Path]:
    """Returns the study that the arguments describe, and the folder that its paths are relative to."""
    from automl import study_spec
    from automl.data import sources

    if study is not None:
        if data is not None or targets:
            raise ConfigError("a study's file already names its data and target", where="--data, --target")
        return study_spec.load(study, _given(overrides)), study.resolve().parent
    source, params = sources.infer(data) if data is not None else ("", {})
    if not targets and source == "folder":  # whose classes are its folders
        targets = [sources.LABEL]
    if data is None or not targets:
        raise ConfigError(
            "nothing to run", remedy="Name a study's file, or a table: automl run --data FILE --target COLUMN"
        )
    document = {
        "version": 1,
        "name": study_spec.name_for(data, "-".join(targets)),
        "data": {"source": source, "params": params, "target": targets[0] if len(targets) == 1 else targets},
    }
    return study_spec.build(document, where="the command line", overrides=_given(overrides)), Path.cwd()


def _run(
    spec: StudySpec,
    base: Path,
    workers: int | None,
    plugin: list[str],
    tracking_uri: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Runs a study and shows what it came to; ends the process where that is not exit code 0."""
    from automl import plugins, report
    from automl import study as studies_

    plugins.require(spec.plugins, plugins.named_modules(plugin), where=spec.name)
    options = studies_.RunOptions(
        workers=workers or os.cpu_count() or 1,
        tracking_uri=_tracking_uri(tracking_uri),
        plugins=tuple(plugin),
        dry_run=dry_run,
        began=BEGAN,
    )
    try:
        with report.Terminal(quiet=quiet, verbose=verbose) as terminal:
            result = studies_.run_study(spec, base, options, terminal, report.markdown)
    except KeyboardInterrupt:
        print(f"interrupted; {_go_on(spec.name)}", file=sys.stderr)
        sys.exit(130)
    except studies_.Terminated:
        print(f"ended; {_go_on(spec.name)}", file=sys.stderr)
        sys.exit(143)
    document = studies_.result_to_json(result)
    if as_json:
        report.print_json(document)
    else:
        _print(report.leaderboard_table(document))
        table = _table(spec.model_dump(), base)
        print("\n".join(report.summary_lines(document, program=_program(), data=table)))
    if result.status == "interrupted":
        print(f"interrupted; go on with it: automl resume {spec.name}", file=sys.stderr)
        sys.exit(130)


def _usage_sentence(error: Any) -> str:
    """Returns what is wrong with the arguments, and where to read what is right."""
    message = str(error.format_message()).strip() or "nothing was asked for"
    command = error.ctx.command_path if error.ctx is not None else "automl"
    return f"{command}: {message.rstrip('.')}. See {command} --help"


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _given(overrides: Mapping[str, tuple[str, Any]]) -> dict[str, tuple[str, Any]]:
    return {path: (flag, value) for path, (flag, value) in overrides.items() if value is not None}


def _go_on(name: str) -> str:
    """Returns what to do about a study that was ended, which may have been before it was stored."""
    from automl import study_folder

    return f"go on with it: automl resume {name}" if name in study_folder.names() else "nothing had been run yet"


def _program() -> str:
    """Returns how this program can be called from here."""
    name = Path(sys.argv[0]).name
    return "automl" if shutil.which(name) or name == "__main__.py" else os.path.relpath(sys.argv[0])


def _as_in_study(model: str) -> tuple[Mapping[str, Any] | None, Mapping[str, Path]]:
    """Returns how a study reads its table, and where its blocks are read from; nothing of a model that is no study."""
    from automl import preparation, study_folder, study_spec
    from automl.data import blocks

    if model not in study_folder.names():
        return None, {}
    folder = study_folder.existing(model)
    document = study_folder.read_json(folder.spec)
    usual: Mapping[str, Path] = {}
    if folder.prepared.is_file():
        base = Path(study_folder.read_json(folder.prepared)["base"])
        with suppress(AutomlError):  # the study's own files may have moved, and others be named
            usual = blocks.files(preparation.layouts(study_spec.build(document, where=str(folder.spec)), base))
    return document["data"], usual


def _places(files: list[str]) -> dict[str, Path]:
    """Returns the places in `NAME=PLACE`."""
    for given in files:
        if not all(given.partition("=")):
            raise ConfigError(f"found `{given}`; allowed: NAME=PLACE", where="--files")
    return {name: Path(place).expanduser() for name, _, place in (given.partition("=") for given in files)}


def _table(study: Mapping[str, Any], base: Path) -> str:
    """Returns the file that a study read, `DATA` where it read none, and what is to be named with it to predict."""
    data, neighbours = study["data"], study.get("neighbours")
    if data["target"] is None:  # a LightningDataModule, whose model reads arrays
        table = "rows.npy"
    else:
        table = os.path.relpath(base / data["params"]["path"]) if "path" in data["params"] else "DATA"
    edges = [f"--edges {os.path.relpath(base / neighbours['file'])}"] if neighbours else []
    return " ".join([table, *edges, *(f"--plugin {name}" for name in study.get("plugins", ()))])


def _tracking_uri(flag: str | None) -> str:
    from automl.tracking.tracker import default_tracking_uri

    return default_tracking_uri(flag)


def _print(table: Table) -> None:
    from rich.console import Console

    Console().print(table)
