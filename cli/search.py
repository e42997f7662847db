"""`nas search`: the main job."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from .common import (
    MOST_BATCH,
    MOST_NETS,
    MOST_PROCESSES,
    MOST_TOKENS,
    CheckOption,
    DeviceOption,
    RunOption,
    SpaceOption,
    StepsOption,
    TaskOption,
    TrustOption,
    app,
    check_words,
    console,
    hushed,
    say,
    trusting,
)

if TYPE_CHECKING:
    from ..search.answer import Answer
    from ..supernet.adopt.source import Source


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
    model: Annotated[
        str | None, typer.Option("--model", help="Trained model to cut, as of `nas adopt`, in the place of --space.")
    ] = None,
    space: SpaceOption = None,
    max_p95: Annotated[list[str] | None, typer.Option(help="95th percentile of calls at most: 8ms.")] = None,
    max_ttft: Annotated[list[str] | None, typer.Option(help="Time to first token at most: 200ms.")] = None,
    max_tpot: Annotated[list[str] | None, typer.Option(help="Time per output token at most: 30ms.")] = None,
    max_energy: Annotated[list[str] | None, typer.Option(help="Energy of a call at most: 20mJ.")] = None,
    max_memory: Annotated[list[str] | None, typer.Option(help="Peak memory at most: 50MiB.")] = None,
    max_size: Annotated[list[str] | None, typer.Option(help="Bytes of the weights at most: 4MiB.")] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="Bits as genes: auto, or schemes to choose from, as w8a8 or w8a8,w4a16g64. Behind the bits: t, one "
            "scale a weight; z, weights with zero points; s, activations without; d, activations with scales found "
            "at run time. Or fp16, bf16, fp8."
        ),
    ] = None,
    max_params: Annotated[list[str] | None, typer.Option(help="Largest number of parameters: 2M.")] = None,
    max_flops: Annotated[list[str] | None, typer.Option(help="FLOPs (2 x multiply-adds) at most: 1G.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="Also minimize: energy_mj, params ...; may be repeated.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=MOST_BATCH, help="Batch size of the deployed net.")] = 1,
    prompt: Annotated[
        int | None, typer.Option(min=1, max=MOST_TOKENS, help="Of a language model: tokens of a prompt (64).")
    ] = None,
    generate: Annotated[
        int | None, typer.Option(min=2, max=MOST_TOKENS, help="Tokens to generate (32): a call is such a request.")
    ] = None,
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
    check: CheckOption = True,
    trust: TrustOption = False,
) -> None:
    """Find the best net of a space for a device and a budget, and write it to files.

    **Examples**

    `nas search --target jetson-orin --budget 5ms`

    `nas search --target local-cpu --budget 60% --task fashion-mnist --run runs/fashion --baselines`

    `nas search --target my-board.yaml --budget 800us --max-params 200K --space my_space.py:vit --json`

    `nas search --target jetson-orin --budget 5ms --target iphone-12 --budget 2ms`

    `nas search --model minilm --target local-cpu --budget 60%`

    `nas search --target jetson-orin --objective energy_mj --max-energy 20mJ --max-size 4MiB`
    """
    from ..hw_profiles import load_device
    from ..search.algorithms import check_algorithm
    from ..search.costs import cost_named
    from ..search.units import parse_limits
    from ..search_space.quantization import Quantization

    targets = target or ["local-cpu"]
    for name in objective or []:
        cost_named(name)
    written = {
        "latency_ms": budget,
        "latency_p95_ms": max_p95,
        "ttft_ms": max_ttft,
        "tpot_ms": max_tpot,
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
    source = _source(model, space)

    # What follows imports torch; wrong words have been refused by now.
    from ..search.find import find
    from .live import Display

    trusting(trust, run)
    with hushed(quiet or as_json), Display(console) as progress:
        if source is not None:
            from ..search.adopting import opened_run

            run, task = opened_run(run, source, task, progress), None
        answers = find(
            space,
            task,
            targets=devices,
            limits=limits,
            objectives=objective or (),
            quantize=quantize,
            each=each,
            batch=batch,
            prompt=prompt,
            generate=generate,
            steps=steps,
            device=device,
            evaluations=evaluations,
            algorithm=algorithm,
            seed=seed,
            workers=workers,
            ray=ray,
            baselines=baselines,
            check=check,
            run=run or "auto",
            progress=progress,
            title="nas " + " ".join(sys.argv[1:]),
        )
    _print(list(answers.values()) if isinstance(answers, dict) else [answers], quiet, as_json)


def _source(model: str | None, space: str | None) -> "Source | None":
    """Where the trained model comes from, if one is named. Error: a space, too."""
    from ..supernet.adopt.source import source_of

    if model is not None and space is not None:
        raise UserError(f"--model {model} and --space {space} name two spaces; leave one out")
    return None if model is None else source_of(model)


def _print(answers: "list[Answer]", quiet: bool, as_json: bool) -> None:
    from ..search.reporting import terminal
    from ..search.reporting.answer_json import answer_json, text_of

    if as_json:
        results = [answer_json(answer) for answer in answers]
        typer.echo(text_of(results[0] if len(results) == 1 else {"answers": results}))
    elif quiet:
        for answer in answers:
            typer.echo(f"{answer}\n{answer.folder}/best")
    else:
        for answer in answers:
            console.print(terminal.facts_table(answer), terminal.front_table(answer.choice))
            if len(answer.analysis.comparison) > 1:
                console.print(terminal.comparison_table(answer.analysis))
            for sentence in answer.analysis.why:
                say(f"- {sentence}")
            for note in answer.notes:
                say(note, "Note:")
            say(f"Written to {answer.folder}: best/, front.csv, report.html")
        say(f"All evaluations: {answers[0].run}/study.db; what was done: search.log")
