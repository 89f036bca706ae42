"""What people see of a study: progress on the terminal, leaderboards, the Markdown page in MLflow."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from automl.study_folder import Prepared
from automl.study_spec import StudySpec
from automl.values import Direction, EpochReport, ReferenceResult, StudyResult, Target, Task, TrialResult, TrialState

#: Targets that a sentence names.
MAX_NAMES = 8

#: Seconds between two lines of progress where there is no terminal.
LINE_S = 10.0


class Terminal:
    """Shows how a study goes, on stderr: a live line on a terminal, else a line now and then.

    Args:
        quiet: Show errors only.
        verbose: Show a line for every trial.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        self._verbose = verbose
        self._live: Progress | None = None
        self._next_line = 0.0
        self._spec: StudySpec | None = None
        self._prepared: Prepared | None = None
        self._best: TrialResult | None = None
        self._counts = dict.fromkeys(TrialState, 0)
        self._running: dict[int, int] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Terminal:
        if self.console.is_terminal and not self.console.quiet:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._live.add_task("reading and checking the data", total=None)
            self._live.start()
        else:
            self.console.print("reading and checking the data")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    # --- what a study tells ----------------------------------------------------------------------------------------

    def prepared(self, spec: StudySpec, prepared: Prepared, already: tuple[TrialResult, ...]) -> None:
        self._spec, self._prepared = spec, prepared
        self.console.print(describe(spec, prepared), highlight=False)
        for note in prepared.notes:
            self.console.print(f"  note: {escape(note)}", highlight=False)
        for result in already:
            self._take(result)
        if already:
            self.console.print(f"going on after {len(already)} trials that have ended")
        self._show()

    def trial_started(self, number: int) -> None:
        self._running[number] = 0
        self._show()

    def epoch(self, number: int, epoch: EpochReport) -> None:
        self._running[number] += 1
        self._show()

    def trial_ended(self, result: TrialResult) -> None:
        better = self._take(result)
        if self._verbose or better:
            network = result.configuration.network.name if result.configuration else "?"
            mark = " *" if better else ""
            outcome = number(result.value) if result.value is not None else f"{result.reason}: {result.message}"
            self.console.print(
                f"trial {result.number:>4}  {result.state:<8}  {escape(outcome)}{mark}  "
                f"{network}, {result.n_epochs} epochs, {result.seconds:.1f} s",
                highlight=False,
            )
        self._show()

    def trial_stopped(self, number: int, why: str) -> None:
        self._running.pop(number, None)
        self.console.print(f"trial {number:>4}  {escape(why)}; it will be gone on with", highlight=False)
        self._show()

    def reference_ended(self, result: ReferenceResult) -> None:
        outcome = number(result.value) if result.value is not None else f"failed: {result.message}"
        self.console.print(f"reference {result.name}: {escape(outcome)} ({result.seconds:.1f} s)", highlight=False)

    def interrupted(self) -> None:
        self.console.print("stopping: what runs ends with its best so far; Ctrl-C again ends at once", highlight=False)

    def unchanged(self, why: str) -> None:
        self.console.print(
            f"nothing to add: {why or 'the search is over'}; for more, give a larger --trials or --time, "
            "earlier runs included",
            highlight=False,
        )

    def finalising(self) -> None:
        text = "building the ensemble, scoring the test rows"
        if self._live is not None:
            self._live.update(self._task, description=text, total=None)
        else:
            self.console.print(text)

    def _take(self, result: TrialResult) -> bool:
        """Counts a trial, and returns whether it is the best so far."""
        self._counts[result.state] += 1
        self._running.pop(result.number, None)
        if result.state is not TrialState.COMPLETE or result.value is None or self._prepared is None:
            return False
        sign = 1 if self._prepared.direction is Direction.MINIMIZE else -1
        if self._best is None or self._best.value is None or sign * result.value < sign * self._best.value:
            self._best = result
            return True
        return False

    def _show(self) -> None:
        assert self._spec is not None
        budget = self._spec.budget
        done = sum(self._counts.values())
        seconds = time.monotonic() - self._began
        text = f"{done}{f'/{budget.trials}' if budget.trials else ''} trials"
        parts = [f"{count} {state.value}" for state, count in self._counts.items() if count]
        text += f" ({', '.join(parts)})" if parts else ""
        if self._best is not None and self._best.value is not None and self._prepared is not None:
            text += f", best {self._prepared.objective} {number(self._best.value)} (trial {self._best.number})"
        if self._running:
            text += ", now " + ", ".join(f"{n}:{epoch}" for n, epoch in self._running.items())
        if self._live is not None:
            total = budget.time or budget.trials
            completed = seconds if budget.time else float(done)
            self._live.update(self._task, description=text, total=total, completed=min(completed, total or 0))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_S
            self.console.print(f"[{seconds:4.0f} s] {escape(text)}", markup=False, highlight=False)


# --- results -----------------------------------------------------------------------------------------------------


def describe(spec: StudySpec, prepared: Prepared) -> str:
    """Returns what a study works on, in one sentence a line."""
    schema = prepared.schema
    if prepared.data_module is not None:
        return (
            f"study {spec.name}: {prepared.direction.value} {prepared.objective}, which the module logs\n"
            f"  data: what `{prepared.data_module.name}` gives\n"
            f"  search space: {prepared.space_name}, {prepared.space.size()} parameters searched"
        )
    kinds = [c.kind.value for c in schema.used if not c.kind.is_of_block]
    parts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
    parts += [f"{math.prod(b.shape)} of `{b.name}` ({' x '.join(map(str, b.shape))})" for b in schema.blocks]
    columns = ", ".join(parts)
    folds = f" in {prepared.n_folds} folds" if prepared.n_folds > 1 else ""
    return (
        f"study {spec.name}: {_predicted(schema.target)}, {prepared.direction.value} {prepared.objective}\n"
        f"  data: {prepared.n_search + prepared.n_test:,} rows ({prepared.n_train:,} train, {prepared.n_val:,} "
        f"validation{folds}, {prepared.n_test:,} test), columns: {columns}\n"
        f"  search space: {prepared.space_name}, {prepared.space.size()} parameters searched"
    )


def _predicted(target: Target) -> str:
    """Returns what is predicted, such as "multiclass of 3 classes, target `grade`"."""
    if not target.parts:
        classes = f" of {len(target.classes)} classes" if target.task is Task.MULTICLASS else ""
        levels = f" at {', '.join(f'{level:g}' for level in target.quantiles)}" if target.quantiles else ""
        return f"{target.task.value}{classes}{levels}, target `{target.name}`"
    kinds = "" if target.task is Task.MULTILABEL else " ({task})"
    told = [f"`{part.name}`" + kinds.format(task=part.task.value) for part in target.parts[:MAX_NAMES]]
    more = f" and {len(target.parts) - MAX_NAMES} more" if len(target.parts) > MAX_NAMES else ""
    return f"{target.task.value}, {len(target.parts)} targets: {', '.join(told)}{more}"


def leaderboard_table(document: dict[str, Any], *, rows: int = 10) -> Table:
    """Returns the best trials and the reference models of a result document, as a table."""
    table = Table(title=f"{document['study']}: leaderboard by {document['metric']['name']}", title_justify="left")
    for name in ("#", "model", "validation", "test", "seconds"):
        table.add_column(name, justify="left" if name == "model" else "right")
    members = len(document["ensemble"])
    kind = f"ensemble of {members}" if members > 1 else "single best"
    table.add_row("", f"[bold]shipped: {kind}[/bold]", number(document["validation"]), number(document["test"]), "")
    for trial in document["leaderboard"][:rows]:
        if trial["state"] == "complete":
            shown = escape(f"trial {trial['number']}: {trial['network']}")
            table.add_row(str(trial["number"]), shown, number(trial["validation"]), "", f"{trial['seconds']:.1f}")
    for reference in document["references"]:
        table.add_row(
            "",
            f"[dim]reference: {reference['name']}[/dim]",
            number(reference["value"]),
            number(reference["test"]),
            f"{reference['seconds']:.1f}",
        )
    return table


def summary_lines(document: dict[str, Any], *, program: str, data: str) -> list[str]:
    """Returns the last words of a run: counts, times, and the three commands to type next.

    Args:
        document: The study's result.
        program: How this program was called, so that the commands can be pasted.
        data: A table to predict on.
    """
    trials, seconds, metric = document["trials"], document["seconds"], document["metric"]["name"]
    lines = [
        f"{trials['complete']} trial{'' if trials['complete'] == 1 else 's'} complete, {trials['pruned']} pruned, "
        f"{trials['failed']} failed in {seconds['total']:.0f} s "
        f"(search {seconds['search']:.0f} s, end {seconds['final']:.0f} s)",
        f"validation {metric} {number(document['validation'])}, test {metric} {number(document['test'])}",
        *document.get("notes", ()),
    ]
    lines += _better_references(document)
    if document["pending_sync"]:
        pending = f"pending sync: {document['pending_sync']} events have not reached MLflow"
        lines.append(f"{pending}; send them: {program} sync")
    study = document["study"]
    return [
        *lines,
        "",
        "next, to look at every trial in MLflow, to predict, to register the model:",
        f"  {program} ui",
        f"  {program} predict {study} {data} -o predictions.csv",
        f"  {program} promote {study} --model {study} --alias champion",
    ]


def _better_references(document: dict[str, Any]) -> list[str]:
    """Returns a sentence for each reference model that does better than what the search found."""
    sign = 1 if document["metric"]["direction"] == "minimize" else -1
    part, ours = ("validation", document["validation"])
    if document["test"] is not None:
        part, ours = "test", document["test"]
    theirs = {one["name"]: one["value" if part == "validation" else "test"] for one in document["references"]}
    return [
        f"the reference model {name} is better on {part} ({number(score)}): give the search more time"
        for name, score in theirs.items()
        if score is not None and sign * score < sign * ours
    ]


def markdown(result: StudyResult, prepared: Prepared) -> str:
    """Returns the page that MLflow shows for a study."""
    metric = result.metric
    lines = [
        f"# {result.study}",
        "",
        f"{_subject(prepared)}; {result.direction.value} **{metric}**.",
        "",
        f"| model | validation {metric} | test {metric} |",
        "|---|---|---|",
        f"| **shipped** ({_members(result)}) | {number(result.shipped.validation)} | {number(result.test)} |",
        f"| best trial ({result.best.number}) | {number(result.best.value)} | |",
    ]
    for reference in result.references:
        lines.append(f"| reference: {reference.name} | {number(reference.value)} | {number(reference.test)} |")
    lines += _by_target(result, prepared.schema.target)
    lines += [line for note in result.shipped.notes for line in ("", note)]
    lines += [
        "",
        f"{result.count(TrialState.COMPLETE)} trials complete, {result.count(TrialState.PRUNED)} pruned, "
        f"{result.count(TrialState.FAILED)} failed. {_data(prepared)}",
        "",
        f"## Configuration of the best trial ({result.best.number})",
        "",
        "| parameter | value |",
        "|---|---|",
    ]
    if result.best.configuration is not None:
        lines += [f"| `{name}` | {value} |" for name, value in result.best.configuration.flatten().items()]
    return "\n".join(lines) + "\n"


def _by_target(result: StudyResult, target: Target) -> list[str]:
    """Returns a table of how each of several targets does on the test rows, by what there is of each."""
    found: dict[str, dict[str, float]] = {name: {} for name in target.names}
    for name, value in result.shipped.test.items():
        of, _, metric = name.rpartition("/")
        if of in found:
            found[of][metric] = value
    if not target.parts or not any(found.values()):
        return []
    lines = ["", "| target | test |", "|---|---|"]
    for name, scores in found.items():
        lines.append(f"| {name} | {', '.join(f'{metric} {number(value)}' for metric, value in scores.items())} |")
    return lines


def _subject(prepared: Prepared) -> str:
    if prepared.data_module is not None:
        return f"Trains {' and '.join(f'`{name}`' for name in prepared.modules)}"
    target = prepared.schema.target
    return f"Predicts {_predicted(target)}" if target.parts else f"Predicts `{target.name}` ({target.task.value})"


def _data(prepared: Prepared) -> str:
    if prepared.data_module is not None:
        return f"Data: what `{prepared.data_module.name}` gave."
    return (
        f"Data: {prepared.n_search + prepared.n_test:,} rows, digest `{prepared.data_digest[:12]}`; "
        f"{prepared.n_test:,} test rows, scored when nothing was left to choose."
    )


def number(value: float | None) -> str:
    """Returns a score with as many digits as a person compares."""
    return "-" if value is None else f"{value:.5g}"


def print_json(document: Any) -> None:
    """Prints exactly one JSON document on stdout; what is not a number is null."""
    print(json.dumps(_finite(document), indent=2, ensure_ascii=False), file=sys.stdout)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Returns a table of plain text."""
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(escape(str(cell)) for cell in row))
    return made


def _members(result: StudyResult) -> str:
    refitted = result.shipped.refitted
    members = ", ".join(
        f"{'reference' if isinstance(name, str) else 'trial'} {name}{' (refitted)' if name in refitted else ''} "
        f"x {weight:.2f}"
        for name, weight in result.shipped.members
    )
    return f"ensemble: {members}" if len(result.shipped.members) > 1 else members


def _finite(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_finite(value) for value in document]
    if isinstance(document, float) and (document != document or document in (float("inf"), float("-inf"))):
        return None
    return document
