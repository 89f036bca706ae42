"""How good are the models? Ours beside AutoGluon, FLAML, RealMLP, TabM and scikit-learn, on rows that none of them had.

    python benchmarks/quality.py --short                        4 sets, 60 s, one seed; no folder is needed
    python benchmarks/quality.py --data FOLDER                  8 sets, 120 s; three also 60 and 300 s, three seeds
    python benchmarks/quality.py --only rivals automl ...       a part of it; what has a result is not run again
    python benchmarks/quality.py --ablate portfolio ...         what a part of the platform adds
    python benchmarks/quality.py --report [--short]             the table of what there is; nothing is run

Every system gets the same rows, the same seconds and the same two cores, and hands back predictions that are scored
here. Ours is the command line with everything inferred: `automl run` with a time, two workers and no test rows of its
own, as an ensemble (`automl`) and as one network (`automl_single`). Rivals run in environments of their own (`make
rivals`); their results are kept in `results/quality/`, so that they need to be run once. Results of ours belong to the
code that made them.

Exits with 1 when the target is missed: `automl` first by mean rank, never worse than the best reference model of its
own study by more than chance; `automl_single` ahead of the other networks by mean rank.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import quality_runs
import quality_scores
import yaml
from quality_data import HELD_OUT, TUNING, Table, data_sets
from quality_runs import OURS, REFERENCE, RIVALS, UNCALIBRATED, Document, Job

RESULTS = Path(__file__).parent / "results"
ABLATIONS = Path(__file__).with_name("quality_ablations.yaml")
ENVIRONMENTS = Path(__file__).parents[1] / ".venv-rivals"
#: Without --data, and of those that may be looked at.
SHORT = ("breast_cancer", "computers", "police_stops", "plebiscite")
#: Four that may be looked at, and four that are held out.
LONG = ("caravan", "diamonds", "loan_grades", "computers", "mortgages", "health_insurance", "pupils", "letters")
#: Of the long ones: with other times and seeds too. One of each task.
REPEATED = ("computers", "loan_grades", "mortgages")
OTHER_SECONDS = (60, 300)
SEEDS = (0, 1, 2)
#: What `deliver: single` has to be ahead of.
NETWORKS = ("autogluon_networks", "realmlp", "tabm")
SYSTEMS = (*OURS, *RIVALS)
#: Below this limit the target does not hold yet; the short benchmark judges what it has.
TARGET_SECONDS = 120


def main() -> None:
    """Runs what is missing, writes the tables, and judges."""
    options = _options()
    try:
        missed = measure(options)
    except (ImportError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if missed and not options.only:
        print("\n".join(["", "missed:", *missed]), file=sys.stderr)
        sys.exit(1)


def measure(options: argparse.Namespace) -> list[str]:
    """Returns what is missed of the target."""
    sets, results = data_sets(options.data), options.results / "quality"

    @cache
    def table(name: str) -> Table:
        return sets[name].table()

    if options.ablate:
        names = options.sets or [known.name for known in TUNING if sets[known.name].origin is not None]
        lines = ablate(options, table, results, names)
        (options.results / "quality_ablation.md").write_text("\n".join(lines) + "\n")
        return []
    jobs = plan(options)
    for job in jobs if not options.report else ():
        if wanted(job, options.only):
            print(_line(known_or_run(job, table(job.data), results, options)), flush=True)
    found = [document for document in (stored(job, results) for job in _with_reference(jobs)) if document is not None]
    missing = _missing(jobs, found)
    judged = judge(found, results, table, at_least=0 if options.short else TARGET_SECONDS)
    judged["missed"] += [f"not measured: {line}" for line in _grouped(missing)]
    lines = report(found, judged)
    print("\n".join(lines))
    if not (options.sets or options.seconds or options.seeds or _named_sets(options)):  # the page is of the whole plan
        stem = "quality_short" if options.short else "quality"
        (options.results / f"{stem}.md").write_text("\n".join(lines) + "\n")
        (options.results / f"{stem}.json").write_text(json.dumps(judged, indent=1) + "\n")
    return list(judged["missed"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="4 sets, 60 s, one seed")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="one folder a data set, see quality_data.py")
    parser.add_argument("--sets", nargs="+", metavar="SET", help="these data sets and no others")
    parser.add_argument("--seconds", type=int, nargs="+", help="these limits for every set")
    parser.add_argument("--seeds", type=int, nargs="+", help="these seeds for every set")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM[/SET]", help=f"`rivals`, {', '.join(SYSTEMS)}")
    parser.add_argument("--again", action="store_true", help="run also what has a result")
    parser.add_argument("--ablate", nargs="+", metavar="NAME", help="of quality_ablations.yaml, or `all`")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--workers", type=int, default=2, help="cores, for every system")
    parser.add_argument("--rivals", type=Path, default=ENVIRONMENTS, metavar="FOLDER", help="their environments")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    options.only = _spelled_out(options.only or [])
    names = data_sets(options.data)
    if unknown := sorted({*(options.sets or []), *_named_sets(options)} - {*names}):
        parser.error(f"no such data set: {', '.join(unknown)}; there are {', '.join(names)}")
    if unknown := sorted({part.partition("/")[0] for part in options.only} - {*SYSTEMS}):
        parser.error(f"no such system: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    return options


def _spelled_out(only: Sequence[str]) -> list[str]:
    """Returns `--only` with every rival in place of `rivals`."""
    each = [part.partition("/") for part in only]
    return [f"{name}{rest}{data}" for first, rest, data in each for name in (RIVALS if first == "rivals" else [first])]


def _named_sets(options: argparse.Namespace) -> list[str]:
    """Returns the sets of `--only SYSTEM/SET`."""
    return list(dict.fromkeys(part.partition("/")[2] for part in options.only if "/" in part))


def plan(options: argparse.Namespace) -> list[Job]:
    """Returns what belongs to a benchmark, in the order in which it is run: all systems of a set, then the next set."""
    sets = options.sets or _named_sets(options) or (SHORT if options.short else LONG)
    seconds, seeds = options.seconds, options.seeds
    if options.short or seconds or seeds:
        cells = list(itertools.product(sets, seconds or [60 if options.short else 120], seeds or [0]))
    else:
        repeated = [name for name in REPEATED if name in sets]
        cells = [(name, 120, 0) for name in sets]
        cells += itertools.product(repeated, OTHER_SECONDS, [0])
        cells += itertools.product(repeated, [120], SEEDS[1:])
    return [Job(system, *cell) for cell in cells for system in SYSTEMS]


def wanted(job: Job, only: Sequence[str]) -> bool:
    """Returns whether `SYSTEM` or `SYSTEM/SET` names a job; everything is wanted when nothing is named."""
    return not only or job.system in only or f"{job.system}/{job.data}" in only


def known_or_run(job: Job, table: Table, results: Path, options: argparse.Namespace, **changes: Any) -> Document:
    """Returns the result of a job, which is run if there is none that fits the table and, for ours, the code."""
    found = None if options.again else quality_runs.known(job, table.digest, results)
    return found or quality_runs.run(job, table, results, options.rivals, options.workers, **changes)


def stored(job: Job, results: Path) -> Document | None:
    """Returns the result of a job as it lies on disk, whatever code made it."""
    path = job.path(results)
    return json.loads(path.read_text()) if path.is_file() else None


def _with_reference(jobs: Iterable[Job]) -> list[Job]:
    return [
        each for job in jobs for each in ([job, replace(job, system=REFERENCE)] if job.system == "automl" else [job])
    ]


def _missing(jobs: Sequence[Job], found: Sequence[Document]) -> list[Job]:
    there = {_job(document) for document in found}
    return [job for job in jobs if job not in there]


def _job(document: Document) -> Job:
    return Job(*(document[key] for key in ("system", "data", "seconds", "seed")))


# --- judging -----------------------------------------------------------------------------------------------------


def judge(
    found: Sequence[Document], results: Path, table: Callable[[str], Table], at_least: int = TARGET_SECONDS
) -> dict[str, Any]:
    """Returns mean ranks, tests and what is missed of the target.

    Args:
        found: Results of any systems; a set counts for a limit when every system of the plan has a result there.
        table: Returns a data set by name, for tests that need its rows.
        at_least: Seconds from which the target holds.
    """
    limits = {}
    missed = []
    for seconds in sorted({document["seconds"] for document in found}):
        by_set = complete(found, seconds)
        if not by_set:
            continue
        held_out = [by_set[known.name] for known in HELD_OUT if known.name in by_set]
        means = quality_scores.mean_ranks(list(by_set.values()))
        limits[str(seconds)] = {
            "sets": list(by_set),
            "mean_rank": means,
            "mean_rank_held_out": quality_scores.mean_ranks(held_out),
            "p": {ours: _tests(by_set, ours) for ours in OURS},
        }
        if seconds >= at_least:
            missed += [f"{seconds} s: {sentence}" for sentence in _behind(means)]
    worse = [document for document in found if (document.get("beside_reference") or {}).get("high", 0.0) < 0]
    missed += [
        f"{document['seconds']} s: automl is worse than {document['beside_reference']['reference']} on "
        f"{document['data']} (seed {document['seed']})"
        for document in worse
        if document["seconds"] >= at_least
    ]
    return {"limits": limits, "differences": _differences(found, results, table), "missed": missed}


def complete(found: Sequence[Document], seconds: int) -> dict[str, tuple[str, dict[str, float]]]:
    """Returns data set -> (metric, system -> mean score over seeds), of the sets that every system has a result on.

    The seeds of a set are those that every system has. A system that failed with one of them has failed.
    """
    cells: dict[str, dict[int, dict[str, float]]] = {}
    metric_of = {}
    for document in found:
        if document["seconds"] == seconds and document["system"] in SYSTEMS:
            score = document["score"]
            by_seed = cells.setdefault(document["data"], {}).setdefault(document["seed"], {})
            by_seed[document["system"]] = float("nan") if score is None else score
            metric_of[document["data"]] = document["metric"]
    found_sets = {}
    for name, by_seed in cells.items():
        whole = [scores for scores in by_seed.values() if set(scores) == set(SYSTEMS)]
        if whole:
            means = {system: statistics.fmean(scores[system] for scores in whole) for system in SYSTEMS}
            found_sets[name] = (metric_of[name], means)
    return found_sets


def _tests(by_set: Mapping[str, tuple[str, dict[str, float]]], ours: str) -> dict[str, float]:
    """Returns rival -> p-value of the signed-rank test of our normalised scores against its own."""
    each = [quality_scores.normalised(scores, metric) for metric, scores in by_set.values()]
    return {
        rival: quality_scores.signed_rank([of_set[ours] for of_set in each], [of_set[rival] for of_set in each])
        for rival in RIVALS
    }


def _behind(means: Mapping[str, float]) -> list[str]:
    """Returns a sentence for each system that ours should be ahead of and is not."""
    pairs = [("automl", RIVALS), ("automl_single", NETWORKS)]
    return [
        f"mean rank of {ours} {means[ours]:.2f}, of {rival} {means[rival]:.2f}"
        for ours, rivals in pairs
        for rival in rivals
        if means[ours] >= means[rival]
    ]


def _differences(found: Sequence[Document], results: Path, table: Callable[[str], Table]) -> list[dict[str, Any]]:
    """Returns how much better ours is than each rival in each run of which both have left predictions."""
    rows = []
    for document in found:
        if document["system"] != "automl" or document["score"] is None:
            continue
        job = _job(document)
        ours = _predictions(job, results)
        for rival in RIVALS:
            theirs = _predictions(replace(job, system=rival), results)
            if ours is None or theirs is None:
                continue
            try:
                data = table(job.data)
            except (ImportError, FileNotFoundError):  # only told of, not measured, this time
                continue
            beside = quality_scores.difference(data.metric, data.task, data.y_test, ours, theirs)
            told = {"data": job.data, "seconds": job.seconds, "seed": job.seed}
            rows.append({**told, "rival": rival, **asdict(beside)})
    return rows


def _predictions(job: Job, results: Path) -> np.ndarray | None:
    path = job.predictions(results)
    return np.load(path) if path.is_file() else None


# --- telling -----------------------------------------------------------------------------------------------------


def report(found: Sequence[Document], judged: Mapping[str, Any]) -> list[str]:
    """Returns the lines of the page."""
    systems = ["automl", REFERENCE, *(name for name in SYSTEMS if name != "automl")]
    lines = [f"Two cores; {_machine(found)}. Scores of test rows that no system had; bold is best."]
    stale = {d["system"] for d in found if d["code_digest"] not in (None, quality_runs.code_digest())}
    if stale:
        lines += ["", f"**Of an earlier state of the code: {', '.join(sorted(stale))}.**"]
    for seconds in sorted({document["seconds"] for document in found}):
        at = [document for document in found if document["seconds"] == seconds]
        limit = judged["limits"].get(str(seconds))
        lines += ["", f"## {seconds} seconds", ""]
        lines += _score_table(at, systems)
        if limit:
            lines += [
                "",
                f"Mean rank over {len(limit['sets'])} sets (p of a signed-rank test against it over sets):",
                "",
            ]
            lines += _rank_table(limit)
        lines += ["", "Seconds to fit and, in brackets, most memory in MB; over the limit in bold:", ""]
        lines += _cost_table(at, systems, seconds)
    lines += _reference_lines(found) + _difference_lines(judged["differences"])
    failed = [document for document in found if document["error"]]
    if failed:
        lines += ["", "Failed:", "", *(f"- {_cell(document)}: {document['error']}" for document in failed)]
    target = judged["missed"] or ["nothing"]
    return [*lines, "", "Missed of the target:", "", *(f"- {sentence}" for sentence in target)]


def _score_table(at: Sequence[Document], systems: Sequence[str]) -> list[str]:
    rows = [f"| data | metric | {' | '.join(systems)} |", f"|---|---|{'---|' * len(systems)}"]
    held_out = {known.name for known in HELD_OUT}
    for name in dict.fromkeys(document["data"] for document in at):
        here = [document for document in at if document["data"] == name]
        metric = here[0]["metric"]
        means = {system: _mean([d["score"] for d in here if d["system"] == system]) for system in systems}
        known = {system: value for system, value in means.items() if value is not None}
        best = max(known.values(), key=lambda value: quality_scores.sign(metric) * value, default=None)
        cells = ["" if v is None else f"**{v:.4g}**" if v == best else f"{v:.4g}" for v in means.values()]
        seeds = len({document["seed"] for document in here})
        shown = f"{name}{' (held out)' if name in held_out else ''}{f', {seeds} seeds' if seeds > 1 else ''}"
        rows.append(f"| {shown} | {metric} | {' | '.join(cells)} |")
    return rows


def _rank_table(limit: Mapping[str, Any]) -> list[str]:
    rows = ["| system | mean rank | held out | p, automl | p, automl_single |", "|---|---|---|---|---|"]
    for name, mean in limit["mean_rank"].items():
        held_out = limit["mean_rank_held_out"].get(name)
        tests = [limit["p"][ours].get(name) for ours in OURS]
        cells = [
            f"{mean:.2f}",
            "" if held_out is None else f"{held_out:.2f}",
            *("" if p is None else f"{p:.3f}" for p in tests),
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _cost_table(at: Sequence[Document], systems: Sequence[str], seconds: int) -> list[str]:
    shown = [name for name in systems if name != REFERENCE]
    rows = [f"| data | {' | '.join(shown)} |", f"|---|{'---|' * len(shown)}"]
    for name in dict.fromkeys(document["data"] for document in at):
        cells = []
        for system in shown:
            here = [d for d in at if (d["data"], d["system"]) == (name, system) and d["fit_seconds"] is not None]
            if not here:
                cells.append("")
                continue
            spent, memory = max(d["fit_seconds"] for d in here), max(d["peak_mb"] or 0 for d in here)
            cells.append(f"**{spent:.0f}** ({memory})" if spent > 1.05 * seconds else f"{spent:.0f} ({memory})")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def _reference_lines(found: Sequence[Document]) -> list[str]:
    beside = [document for document in found if document.get("beside_reference")]
    if not beside:
        return []
    lines = [
        "",
        "## automl beside the best reference of its own study",
        "",
        "The reference is refitted on every row. Above 0: automl is better.",
        "",
        "| run | reference | better by | 95 % interval |",
        "|---|---|---|---|",
    ]
    for document in beside:
        it = document["beside_reference"]
        interval = f"{it['low']:.3g} to {it['high']:.3g}{', **worse**' if it['high'] < 0 else ''}"
        lines.append(f"| {_cell(document)} | {it['reference']} | {it['value']:.3g} | {interval} |")
    return lines


def _difference_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns how often ours is better and worse than each rival by more than chance."""
    if not rows:
        return []
    cells = dict.fromkeys(f"{row['data']} {row['seconds']} s seed {row['seed']}" for row in rows)
    lines = [
        "",
        "## Run by run",
        "",
        f"Paired bootstrap over test rows ({quality_scores.N_RESAMPLES} resamples, 95 %). Predictions are not kept "
        f"with the results; of the runs of which both systems' are there ({', '.join(cells)}) automl is:",
        "",
        "| rival | better | not distinguishable | worse |",
        "|---|---|---|---|",
    ]
    for rival in dict.fromkeys(row["rival"] for row in rows):
        signs = [(row["low"] > 0) - (row["high"] < 0) for row in rows if row["rival"] == rival]
        lines.append(f"| {rival} | {' | '.join(str(signs.count(sign)) for sign in (1, 0, -1))} |")
    return lines


def _grouped(jobs: Sequence[Job]) -> list[str]:
    cells = dict.fromkeys(replace(job, system="") for job in jobs)
    return [
        f"{cell.data}, {cell.seconds} s, seed {cell.seed}: "
        f"{', '.join(job.system for job in jobs if replace(job, system='') == cell)}"
        for cell in cells
    ]


def _machine(found: Sequence[Document]) -> str:
    kinds = {json.dumps({key: d["machine"][key] for key in ("processor", "cores", "python")}) for d in found}
    return "; ".join(
        f"{it['processor']}, {it['cores']} cores, Python {it['python']}" for it in map(json.loads, sorted(kinds))
    )


def _cell(document: Document) -> str:
    return f"{document['system']} on {document['data']}, {document['seconds']} s, seed {document['seed']}"


def _line(document: Document) -> str:
    score = document["error"] or f"{document['metric']} {document['score']:.5g}"
    return f"{_cell(document)}: {score}, {document['fit_seconds']} s, {document['peak_mb']} MB"


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return statistics.fmean(known) if known and len(known) == len(scores) else None


# --- ablation ----------------------------------------------------------------------------------------------------


def ablate(
    options: argparse.Namespace, table: Callable[[str], Table], results: Path, names: Sequence[str]
) -> list[str]:
    """Returns the lines that say what each part adds, after running the study with and without it."""
    known = yaml.safe_load(ABLATIONS.read_text())
    parts = list(known) if options.ablate == ["all"] else options.ablate
    lines = [
        "Each part is taken away (`with_`: added) by the change in `quality_ablations.yaml`. Better by, 95 % interval: "
        "of the study as it is over the changed one, in units of the metric.",
    ]
    for seconds in options.seconds or [120]:
        lines += [
            "",
            f"## {seconds} seconds",
            "",
            "| part | data | metric | as it is | changed | better by |",
            "|---|---|---|---|---|---|",
        ]
        for part, name, seed in itertools.product(parts, names, options.seeds or [0]):
            data = table(name)
            whole, less = Job("automl", name, seconds, seed), Job(f"automl_changed_{part}", name, seconds, seed)
            documents = [known_or_run(whole, data, results, options)]
            if less.system == UNCALIBRATED:  # of the same study; of numbers, nothing is calibrated
                documents += [document] if (document := stored(less, results)) else []
            else:
                documents.append(known_or_run(less, data, results, options, changes=known[part]))
            if len(documents) == 1:
                continue
            made = [_predictions(job, results) for job in (whole, less)]
            scores = ["failed" if d["score"] is None else f"{d['score']:.4g}" for d in documents]
            gain = ""
            if made[0] is not None and made[1] is not None and "failed" not in scores:
                beside = quality_scores.difference(data.metric, data.task, data.y_test, made[0], made[1])
                gain = f"{beside.value:.3g} ({beside.low:.3g} to {beside.high:.3g})"
            lines.append(f"| {part} | {name} | {data.metric} | {' | '.join(scores)} | {gain} |")
            print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    main()
