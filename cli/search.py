"""`nas search`: the main job."""

import sys
from dataclasses import replace
from typing import Annotated

import typer

from .common import RunOption, SpaceOption, StepsOption, TaskOption, app, console, stated, trained


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
    steps: StepsOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the search; the training's is that of `nas train`.")] = 0,
) -> None:
    """Find the best net of a space for a device and a budget, and write it to files.

    **Examples**

    `nas search --target jetson-orin --budget 5ms`

    `nas search --target local-cpu --budget 60% --task fashion-mnist --run runs/fashion`

    `nas search --target my-board.yaml --budget 800us --max-params 200K --space my_space.py:vit`
    """
    from ..search import answer_files, calibration, pipeline, terminal, units
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
    from ..supernet.store import Supernet

    device = load_device(target)
    load_algorithm(algorithm)
    chosen_run = prepare_run(run, task, space, stated(steps=steps))
    if not chosen_run.is_trained():  # said before the minutes of training
        known = replace(limits, budget=None) if device.measurable else limits
        check_limits(Candidates(Supernet(chosen_run.space), chosen_run.task, device, batch), known)
    supernet = trained(chosen_run)
    candidates = Candidates(supernet, chosen_run.task, device, batch)
    with console.status("Timing nets on this machine" if device.measurable else "Preparing"):
        candidates = calibration.calibrated(candidates, chosen_run.folder)
    with terminal.progress_bar(console, "Searching") as progress:
        answer = pipeline.find(
            candidates,
            limits,
            evaluations=evaluations,
            algorithm=algorithm,
            seed=seed,
            storage=chosen_run.folder / "study.db",
            progress=progress,
        )
    command = "nas " + " ".join(sys.argv[1:])
    with console.status("Writing files"):
        facts = answer_files.write(chosen_run, candidates, answer, limits, command)
    console.print(terminal.facts_table(answer, facts), terminal.front_table(answer))
    for note in answer.notes:
        console.print(f"[yellow]Note:[/] {note}")
    console.print(f"Written to {chosen_run.folder}: best/, front.csv, study.db, report.html", soft_wrap=True)
