"""`nas search`: the main job."""

import sys
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import (
    MOST_BATCH,
    MOST_NETS,
    MOST_PROCESSES,
    DeviceOption,
    RunOption,
    SpaceOption,
    StepsOption,
    TaskOption,
    TrustOption,
    alone,
    app,
    check_words,
    console,
    hushed,
    say,
    stated,
    trained,
    trusting,
)

if TYPE_CHECKING:
    from ..search.job import Found


@app.command()
def search(
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="Device name (`nas devices`) or file; may be repeated. Default: local-cpu."),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", help="Latency: 5ms, 800us, 0.1s or 60%; for all targets, or for each."),
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="One net for each target, instead of one for all.")] = False,
    run: RunOption = None,
    task: TaskOption = None,
    space: SpaceOption = None,
    max_p95: Annotated[list[str] | None, typer.Option(help="95th percentile of calls at most: 8ms.")] = None,
    max_energy: Annotated[list[str] | None, typer.Option(help="Energy of a call at most: 20mJ.")] = None,
    max_memory: Annotated[list[str] | None, typer.Option(help="Peak memory at most: 50MiB.")] = None,
    max_size: Annotated[list[str] | None, typer.Option(help="Bytes of the weights at most: 4MiB.")] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="Bits as genes: auto, or schemes to choose from, as w8a8 or w8a8,w4a16g64. Behind the bits: t, one "
            "scale a weight; z, weights with zero points; s, activations without. Or fp16, bf16, fp8."
        ),
    ] = None,
    max_params: Annotated[list[str] | None, typer.Option(help="Largest number of parameters: 2M.")] = None,
    max_flops: Annotated[list[str] | None, typer.Option(help="FLOPs (2 x multiply-adds) at most: 1G.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="Also minimize: energy_mj, params ...; may be repeated.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Batch size of the deployed net.")] = 1,
    evaluations: Annotated[int, typer.Option(min=1, max=MOST_NETS, help="Architectures to evaluate.")] = 200,
    algorithm: Annotated[
        str, typer.Option(help="auto, nsga2, linas, random, or a sampler: optuna:GPSampler.")
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, max=MOST_PROCESSES, help="Processes that evaluate nets at a time.")
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Ray cluster that they run on: auto or HOST:PORT.")] = None,
    steps: StepsOption = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**32 - 1, help="Of the search; the training's is that of `nas train`.")
    ] = 0,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Compare with random search and uniform scaling, evaluated alike.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print one line and the path of the answer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
) -> None:
    """Find the best net of a space for a device and a budget, and write it to files.

    **Examples**

    `nas search --target jetson-orin --budget 5ms`

    `nas search --target local-cpu --budget 60% --task fashion-mnist --run runs/fashion --baselines`

    `nas search --target my-board.yaml --budget 800us --max-params 200K --space my_space.py:vit --json`

    `nas search --target jetson-orin --budget 5ms --target iphone-12 --budget 2ms`

    `nas search --target jetson-orin --objective energy_mj --max-energy 20mJ --max-size 4MiB`
    """
    from ..hw_profiles import load_device
    from ..hw_profiles.policies import policies_for
    from ..search.algorithms import check_algorithm, load_algorithm
    from ..search.costs import cost_named
    from ..search.units import parse_limits
    from ..search_space.quantization import Quantization

    targets = target or ["local-cpu"]
    for name in objective or []:
        cost_named(name)
    written = {
        "latency_ms": budget,
        "latency_p95_ms": max_p95,
        "energy_mj": max_energy,
        "memory_mib": max_memory,
        "size_mib": max_size,
        "params": max_params,
        "flops": max_flops,
    }
    limits = parse_limits(targets, {name: texts for name, texts in written.items() if texts})
    check_words(task, space, device=device)
    check_algorithm(algorithm)
    if quantize is not None:
        Quantization.parse(quantize)  # checks the words; `policies_for` checks what the devices run
    devices = [load_device(name) for name in targets]
    policies = None if quantize is None else policies_for(quantize, devices)

    # What follows imports torch; wrong words have been refused by now.
    from ..search.job import Job
    from ..search.question import Question
    from ..search.reporting import journal
    from ..search.run_folder import Run, prepare_run
    from ..supernet.cluster import check_workers
    from .live import Display

    load_algorithm(algorithm)
    check_workers(workers, ray)
    trusting(trust, run)

    def prepared() -> tuple[Run, Job]:
        """Errors are raised here: before anything is written, and before the minutes of training."""
        chosen_run = prepare_run(run, task, space, stated(steps=steps))
        job = Job(
            chosen_run if policies is None else chosen_run.quantized(policies),
            tuple(devices),
            Question(tuple(dict.fromkeys(objective or [])), evaluations, algorithm, seed, workers, ray),
            tuple(limits),
            each=each,
            batch=batch,
            baselines=baselines,
            command="nas " + " ".join(sys.argv[1:]),
        )
        job.check()
        return chosen_run, job

    with (
        alone(prepared, itemgetter(0)) as (chosen_run, job),
        hushed(quiet or as_json),
        journal.journal(chosen_run.folder, job.command),
    ):
        supernet = trained(chosen_run, device)
        with Display(console) as progress:
            found = job.answers(supernet if policies is None else supernet.serving(job.run.space), progress)
    _print(found, chosen_run.folder, quiet, as_json)


def _print(found: "list[Found]", folder: Path, quiet: bool, as_json: bool) -> None:
    from ..search.reporting import answer_json
    from . import tables

    if as_json:
        answers = [answer_json.answer_json(one.answer, one.analysis, one.facts, one.folder, folder) for one in found]
        typer.echo(answer_json.text_of(answers[0] if len(answers) == 1 else {"answers": answers}))
        return
    for one in found:
        answer, findings = one.answer, one.analysis
        if quiet:
            typer.echo(f"{answer.text}\n{one.folder / 'best'}")
            continue
        console.print(tables.facts_table(answer, one.facts), tables.front_table(answer))
        if len(findings.comparison) > 1:
            console.print(tables.comparison_table(findings, answer.metric))
        for sentence in findings.why:
            say(f"- {sentence}")
        for note in answer.notes:
            say(note, "Note:")
        say(f"Written to {one.folder}: best/, front.csv, report.html")
    if not quiet:
        say(f"All evaluations: {folder}/study.db; what was done: search.log")
