"""`nas train`, `nas extract` and `nas health`: what is done with one run's supernet."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import UserError
from .common import (
    MOST_PROCESSES,
    CheckOption,
    DeviceOption,
    RunOption,
    SeedOption,
    SpaceOption,
    StepsOption,
    TaskOption,
    TrustOption,
    app,
    check_words,
    console,
    remark,
    say,
    stated,
    trusting,
)


@app.command()
def train(
    run: RunOption = None,
    task: TaskOption = None,
    space: SpaceOption = None,
    steps: StepsOption = None,
    minutes: Annotated[float | None, typer.Option(help="Time of the training, in the place of --steps.")] = None,
    sampling: Annotated[
        str | None, typer.Option(help="uniform, progressive, sandwich, matformer or multi-arch.")
    ] = None,
    distill: Annotated[str | None, typer.Option(help="kl, alpha or none.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.")] = None,
    seed: SeedOption = 0,
    init: Annotated[Path | None, typer.Option("--init", help="Run to start from, with its weights and knobs.")] = None,
    arch: Annotated[
        list[str] | None, typer.Option("--arch", help="With --init: train these of its nets only, as in `nas extract`.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="With --init: quantization-aware training, schemes as in `nas search`.")
    ] = None,
    device: DeviceOption = "auto",
    check: CheckOption = True,
    workers: Annotated[
        int, typer.Option(min=1, max=MOST_PROCESSES, help="Processes that share the batches, by Ray Train.")
    ] = 1,
    trust: TrustOption = False,
) -> None:
    """Train a supernet, or go on with an interrupted training.

    **Examples**

    `nas train --task fashion-mnist --run runs/fashion --steps 2000`

    `nas train --space matformer --sampling matformer --run runs/matformer`

    `nas train --init runs/fashion --run runs/longer --steps 1000`

    `nas train --init runs/smollm2 --arch front:1 --arch front:3 --minutes 20 --run runs/distilled`

    `nas train --init runs/fashion --quantize w8a8,w4a8,w2a8 --run runs/few-bits --steps 500`
    """
    from ..search_space.quantization import Quantization
    from ..supernet.cluster import check_workers

    check_words(task, space, device=device)
    check_workers(workers, None)
    knobs = stated(steps=steps, minutes=minutes, sampling=sampling, distill=distill, lr=lr)
    knobs |= stated(batch_size=batch_size, seed=seed or None)
    policies = Quantization.parse(quantize) if quantize is not None else None

    from ..search.bundle import genes_of
    from ..search.run_folder import Run, alone, prepare_run
    from .live import Display

    trusting(trust, run, init)
    if arch:
        if init is None:
            raise UserError("--arch names nets of another run; name that by --init")
        knobs["nets"] = genes_of(init, arch)

    def prepared() -> Run:
        """Errors are raised here, before anything is written."""
        chosen_run = prepare_run(run, task, space, knobs, init=init, quantize=policies)
        chosen_run.check()
        if check:
            chosen_run.require_nested()
        return chosen_run

    with alone(prepared, lambda run: run) as chosen_run, Display(console) as progress:
        chosen_run.trained(progress, device, workers)
    say(f"Trained: {chosen_run.folder}")


@app.command()
def extract(
    arch: Annotated[list[str], typer.Option("--arch", help="best, front:N, largest, smallest or FILE.json.")],
    run: Annotated[Path, typer.Option("--run", help="Run folder with a trained supernet.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the models. Default: RUN/extracted.")] = None,
    formats: Annotated[
        str | None,
        typer.Option("--format", help="safetensors,onnx,torch,huggingface. Default: safetensors or huggingface, onnx."),
    ] = None,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
    target: Annotated[str | None, typer.Option(help="Device of the 8-bit ONNX file. Default: any processor.")] = None,
) -> None:
    """Extract nets from a trained supernet as files: no training, the weights are shared.

    **Examples**

    `nas extract --run runs/fashion --arch best --arch front:3`

    `nas extract --run runs/fashion --arch smallest --format safetensors,onnx,torch --out models`
    """
    from ..hw_profiles import load_device
    from ..lock import locked
    from ..search.bundle import folder_names, named_nets, write_bundle
    from ..search.run_folder import open_run
    from ..supernet.evaluate import evaluate_subnet
    from ..supernet.export import check_formats

    kinds = formats.split(",") if formats else None
    check_formats(kinds or ())
    trusting(trust, run)
    deployed_on = load_device(target) if target else None
    opened = open_run(run)
    named = named_nets(opened, arch)
    folders = folder_names({name: architecture for name, (_, architecture) in named.items()})
    trained_one = opened.supernet(device)
    for name, (of, architecture) in named.items():
        supernet = trained_one if of is opened else trained_one.serving(of.space)
        folder = (out or run / "extracted") / folders[name]
        metric = opened.task.metric
        quality = metric.text(evaluate_subnet(supernet, opened.task, architecture))
        facts = {f"validation {metric.name}": quality}
        with locked(folder.parent, remark):
            write_bundle(of, supernet, architecture, folder, facts, kinds, target=deployed_on)
        say(f"{name}: net {architecture.id}, {quality} on validation, in {folder}")


@app.command()
def health(
    run: Annotated[Path, typer.Argument(help="Run folder with a trained supernet.")],
    nets: Annotated[int, typer.Option(min=3, help="Architectures to train alone.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each stand-alone training.")] = 150,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    trust: TrustOption = False,
) -> None:
    """Can inherited accuracy be trusted? Rank correlation with nets trained alone, agreement across sizes.

    **Examples**

    `nas health runs/fashion`

    `nas health runs/fashion --nets 15 --steps 400`
    """
    from ..search.run_folder import open_run
    from ..supernet.health import check_health
    from .live import Display

    trusting(trust, run)
    opened = open_run(run)
    with Display(console) as progress:
        alone = progress.at("Training nets alone")
        result = check_health(
            opened.supernet(device),
            opened.task,
            nets=nets,
            steps=steps,
            seed=seed,
            recipe=opened.recipe,
            progress=alone,
        )
    table = Table(*result.table.columns, title=f"{nets} nets, {steps} steps alone", title_justify="left")
    for _, row in result.table.iterrows():
        values = (opened.task.metric.text(row[c]) for c in ("inherited", "alone"))
        table.add_row(row["id"], str(row["params"]), *values, f"{row['agreement']:.2%}")
    console.print(table)
    console.print(
        f"Kendall tau of inherited and alone: {result.tau:.2f} (p = {result.p_value:.2g}); "
        f"of parameter count and alone: {result.tau_params:.2f}; agreement with the largest net: {result.agreement:.1%}"
    )
