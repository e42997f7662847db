"""`nas search`: the main job."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import RunOption, SpaceOption, StepsOption, TaskOption, app, console, hushed, stated, trained


@app.command()
def search(
    target: Annotated[str, typer.Option("--target", help="Device name (`nas devices`) or device file.")] = "local-cpu",
    budget: Annotated[str | None, typer.Option("--budget", help="Latency: 5ms, 800us, 0.1s or 60%.")] = None,
    run: RunOption = None,
    task: TaskOption = None,
    space: SpaceOption = None,
    max_params: Annotated[str | None, typer.Option(help="Largest number of parameters: 2M.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Peak memory at most: 50MiB.")] = None,
    max_flops: Annotated[str | None, typer.Option(help="FLOPs (2 x multiply-adds) at most: 1G.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of the deployed net.")] = 1,
    evaluations: Annotated[int, typer.Option(min=1, help="Architectures to evaluate.")] = 200,
    algorithm: Annotated[str, typer.Option(help="auto, or one of nas.algorithms(): nsga2, random ...")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that evaluate nets at a time.")] = None,
    ray: Annotated[str | None, typer.Option(help="Ray cluster that they run on: auto or HOST:PORT.")] = None,
    steps: StepsOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the search; the training's is that of `nas train`.")] = 0,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Compare with random search and uniform scaling, evaluated alike.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print one line and the path of the answer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Find the best net of a space for a device and a budget, and write it to files.

    **Examples**

    `nas search --target jetson-orin --budget 5ms`

    `nas search --target local-cpu --budget 60% --task fashion-mnist --run runs/fashion --baselines`

    `nas search --target my-board.yaml --budget 800us --max-params 200K --space my_space.py:vit --json`
    """
    from ..search import journal, units
    from ..search.limits import Limits, check_limits

    limits = Limits(
        budget=units.parse_budget(budget) if budget else None,
        params=units.parse_count(max_params, "--max-params") if max_params else None,
        memory_mib=units.parse_mebibytes(max_memory, "--max-memory") if max_memory else None,
        flops=units.parse_count(max_flops, "--max-flops") if max_flops else None,
    )
    from ..hw_profiles import load_device
    from ..search.algorithms import load_algorithm
    from ..search.candidates import Candidates
    from ..search.run_folder import prepare_run
    from ..search.workers import check_workers
    from ..supernet.store import Supernet

    device = load_device(target)
    load_algorithm(algorithm)
    check_workers(workers, ray)
    chosen_run = prepare_run(run, task, space, stated(steps=steps))
    if not chosen_run.is_trained():  # said before the minutes of training
        known = replace(limits, budget=None) if device.measurable else limits
        check_limits(Candidates(Supernet(chosen_run.space), chosen_run.task, device, batch), known)
    settings = {"evaluations": evaluations, "algorithm": algorithm, "seed": seed, "workers": workers, "ray": ray}
    command = "nas " + " ".join(sys.argv[1:])
    with hushed(quiet or as_json), journal.journal(chosen_run.folder, command):
        found = _search(chosen_run, device, batch, limits, settings, baselines, command)
    _print(found, chosen_run.folder, quiet, as_json)


def _search(
    run: Any, device: Any, batch: int, limits: Any, settings: dict[str, Any], baselines: bool, command: str
) -> tuple[Any, Any, dict[str, str]]:
    """Train, search, compare and write: (answer, analysis, facts)."""
    from ..search import analysis, answer_files, calibration, journal, live, pipeline
    from ..search.baselines import compare_baselines
    from ..search.candidates import Candidates

    candidates = Candidates(trained(run), run.task, device, batch)
    with console.status("Timing nets on this machine" if device.measurable else "Preparing"):
        candidates = calibration.calibrated(candidates, run.folder)
    storage, log = run.folder / "study.db", journal.FrontLog()
    with live.watching(console, "Searching") as watch:

        def progress(done: int, total: int, study: Any) -> None:
            log(done, total, study)
            watch(done, total, study)

        answer = pipeline.find(candidates, limits, storage=storage, progress=progress, **settings)
    others = {}
    if baselines:
        with live.watching(console, "Comparing") as watch:
            others = compare_baselines(answer.study, seed=settings["seed"], storage=storage, progress=watch)
    with console.status("Writing files"):
        findings = analysis.analyse(answer, others)
        answer = replace(answer, notes=[*answer.notes, *analysis.comparison_notes(findings)])
        facts = answer_files.write(run, candidates, answer, limits, command, findings)
    journal.log_answer(answer, findings)
    return answer, findings, facts


def _print(found: tuple[Any, Any, dict[str, str]], folder: Path, quiet: bool, as_json: bool) -> None:
    from ..search import answer_json, terminal

    answer, findings, facts = found
    if as_json:
        typer.echo(answer_json.answer_json(answer, findings, facts, folder))
    elif quiet:
        typer.echo(f"{terminal.headline(answer)}\n{folder / 'best'}")
    else:
        console.print(terminal.facts_table(answer, facts), terminal.front_table(answer))
        if len(findings.comparison) > 1:
            console.print(terminal.comparison_table(findings, answer.metric))
        for sentence in findings.why:
            console.print(f"- {sentence}", soft_wrap=True, highlight=False)
        for note in answer.notes:
            console.print(f"[yellow]Note:[/] {note}")
        files = "best/, front.csv, study.db, report.html, search.log"
        console.print(f"Written to {folder}: {files}", soft_wrap=True)
