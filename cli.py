"""The `nas` command: it reads what users write, calls the rooms, and prints. Nothing is decided here."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .errors import Infeasible, UserError

INTERRUPTED = 130
console = Console()
app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Neural architecture search for transformers: train one supernet, extract the best net for a device.",
)
space_app = typer.Typer(no_args_is_help=True, help="Look at search spaces.")
app.add_typer(space_app, name="space")

RunOption = Annotated[Path | None, typer.Option("--run", help="Run folder. Default: one in ~/.cache/nas.")]
TaskOption = Annotated[str | None, typer.Option("--task", help="digits, fashion-mnist[:FOLDER], image-folder:PATH.")]
SpaceOption = Annotated[str | None, typer.Option("--space", help="PRESET, FILE.yaml or FILE.py:FUNCTION.")]
StepsOption = Annotated[int | None, typer.Option("--steps", help="Optimizer steps of the supernet's training.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of all that is random.")]


@app.command()
def search(
    target: Annotated[str, typer.Option("--target", help="Device name (`nas devices`) or device file.")] = "local-cpu",
    budget: Annotated[str | None, typer.Option("--budget", help="Latency: 5ms, 800us, 0.1s or 60%.")] = None,
    run: RunOption = None,
    task: TaskOption = None,
    space: SpaceOption = None,
    max_params: Annotated[str | None, typer.Option(help="Largest number of parameters: 2M.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Weights and activations at most: 50MiB.")] = None,
    max_flops: Annotated[str | None, typer.Option(help="FLOPs (2 x multiply-adds) at most: 1G.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of the deployed net.")] = 1,
    evaluations: Annotated[int, typer.Option(min=1, help="Architectures to evaluate.")] = 200,
    algorithm: Annotated[str, typer.Option(help="nsga2 or random.")] = "nsga2",
    steps: StepsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Find the best net of a space for a device and a budget, and write it to files.

    **Examples**

    `nas search --target jetson-orin --budget 5ms`

    `nas search --target local-cpu --budget 60% --task fashion-mnist --run runs/fashion`

    `nas search --target my-board.yaml --budget 800us --max-params 200K --space my_space.py:vit`
    """
    from .search import answer_files, pipeline, terminal, units

    limits = pipeline.Limits(
        budget=units.parse_budget(budget) if budget else None,
        params=units.parse_count(max_params, "--max-params") if max_params else None,
        memory_mib=units.parse_mebibytes(max_memory, "--max-memory") if max_memory else None,
        flops=units.parse_count(max_flops, "--max-flops") if max_flops else None,
    )
    from .hw_profiles import load_device
    from .search.algorithms import load_algorithm
    from .search.candidates import Candidates
    from .search.run_folder import prepare_run
    from .supernet.store import Supernet

    device = load_device(target)
    load_algorithm(algorithm)
    chosen_run = prepare_run(run, task, space, _knobs(steps=steps, seed=seed or None))
    if not chosen_run.is_trained():  # said before the minutes of training
        known = replace(limits, budget=None) if device.measurable else limits
        pipeline.check_limits(Candidates(Supernet(chosen_run.space), chosen_run.task, device, batch), known)
    supernet = _trained(chosen_run)
    candidates = Candidates(supernet, chosen_run.task, device, batch)
    if device.measurable:
        with console.status("Timing nets on this machine"):
            candidates.device = pipeline.calibrated(candidates, chosen_run.folder)
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


def _knobs(**named: Any) -> dict[str, Any]:
    """The training knobs that the user stated."""
    return {name: value for name, value in named.items() if value is not None}


def _trained(run: Any) -> Any:
    """The run's supernet; it is trained first where that has not been done."""
    if run.is_trained():
        return run.supernet()
    from .search.terminal import progress_bar

    console.print(f"Training the supernet of [bold]{run.task_name}[/] once, kept in {run.folder}")
    with progress_bar(console, "Training") as progress:
        supernet = run.train(lambda done, total, row: progress(done, total, f"loss {row['loss']:.3f}"))
    for event in run.history().events:
        console.print(f"[yellow]{event}[/]")
    return supernet


@app.command()
def train(
    run: RunOption = None,
    task: TaskOption = None,
    space: SpaceOption = None,
    steps: StepsOption = None,
    sampling: Annotated[str | None, typer.Option(help="uniform, sandwich, matformer or multi-arch.")] = None,
    distill: Annotated[str | None, typer.Option(help="kl, alpha or none.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Train a supernet, or go on with an interrupted training.

    **Examples**

    `nas train --task fashion-mnist --run runs/fashion --steps 2000`

    `nas train --space matformer --sampling matformer --run runs/matformer`
    """
    from .search.run_folder import prepare_run

    knobs = _knobs(steps=steps, sampling=sampling, distill=distill, lr=lr, batch_size=batch_size, seed=seed or None)
    chosen_run = prepare_run(run, task, space, knobs)
    _trained(chosen_run)
    console.print(f"Trained: {chosen_run.folder}")


@app.command()
def extract(
    arch: Annotated[list[str], typer.Option("--arch", help="best, front:N, largest, smallest or FILE.json.")],
    run: Annotated[Path, typer.Option("--run", help="Run folder with a trained supernet.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the models. Default: RUN/extracted.")] = None,
    formats: Annotated[str, typer.Option("--format", help="safetensors,onnx,torch.")] = "safetensors,onnx",
) -> None:
    """Extract nets from a trained supernet as files: no training, the weights are shared.

    **Examples**

    `nas extract --run runs/fashion --arch best --arch front:3`

    `nas extract --run runs/fashion --arch smallest --format safetensors,onnx,torch --out models`
    """
    from .search.bundle import named_architecture, write_bundle
    from .search.run_folder import open_run
    from .supernet.evaluate import evaluate_subnet
    from .supernet.export import check_formats

    kinds = formats.split(",")
    check_formats(kinds)
    opened = open_run(run)
    named = {name: named_architecture(opened, name) for name in arch}
    supernet = opened.supernet()
    for name, architecture in named.items():
        folder = (out or run / "extracted") / Path(name).stem.replace(":", "-")
        quality = evaluate_subnet(supernet, opened.task, architecture)
        facts = {f"validation {opened.task.metric_name}": f"{quality:.2%}"}
        write_bundle(opened, supernet, architecture, folder, facts, kinds)
        console.print(f"{name}: net {architecture.id}, {quality:.2%} on validation, in {folder}")


@app.command()
def health(
    run: Annotated[Path, typer.Argument(help="Run folder with a trained supernet.")],
    nets: Annotated[int, typer.Option(min=3, help="Architectures to train alone.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each stand-alone training.")] = 150,
    seed: SeedOption = 0,
) -> None:
    """Can inherited accuracy be trusted? Rank correlation with nets trained alone, agreement across sizes.

    **Examples**

    `nas health runs/fashion`

    `nas health runs/fashion --nets 15 --steps 400`
    """
    from .search.run_folder import open_run
    from .search.terminal import progress_bar
    from .supernet.health import check_health

    opened = open_run(run)
    with progress_bar(console, "Training nets alone") as progress:
        found = check_health(
            opened.supernet(), opened.task, nets=nets, steps=steps, seed=seed, recipe=opened.recipe, progress=progress
        )
    table = Table(*found.table.columns, title=f"{nets} nets, {steps} steps alone", title_justify="left")
    for _, row in found.table.iterrows():
        values = (f"{row[c]:.2%}" for c in ("inherited", "alone", "agreement"))
        table.add_row(row["id"], str(row["params"]), *values)
    console.print(table)
    console.print(
        f"Kendall tau of inherited and alone: {found.tau:.2f} (p = {found.p_value:.2g}); "
        f"of parameter count and alone: {found.tau_params:.2f}; agreement with the largest net: {found.agreement:.1%}"
    )


@app.command()
def devices() -> None:
    """List the devices that nets can be searched for.

    **Example**

    `nas devices`
    """
    from .hw_profiles import device_names, load_device

    table = Table("name", "device", "runtime", "precision", "latency is", "tier")
    for name in device_names():
        device = load_device(name)
        model = device.model
        source = "measured here" if device.measurable else (model.source if model else "analytic")
        tier = model.tier if model else "D"
        table.add_row(name, device.title, device.runtime or "datasheet only", device.precision, source, tier)
    console.print(table, "Tiers: A, B measured here; C published points; D datasheet only")


@space_app.command("show")
def space_show(
    name: Annotated[str, typer.Argument(help="PRESET, FILE.yaml or FILE.py:FUNCTION.")],
    task: Annotated[str, typer.Option("--task", help="The task whose inputs the nets take.")] = "digits",
) -> None:
    """Show the genes of a space, its size and what is doubtful about its weight sharing.

    **Examples**

    `nas space show vit-digits`

    `nas space show my_space.py:vit --task fashion-mnist`
    """
    from .search_space.locate import describe_space, space_from
    from .supernet.store import Supernet
    from .tasks import load_task

    loaded = load_task(task)
    space = space_from(describe_space(name, loaded.input_shape, loaded.classes))
    table = Table("gene", "kind", "options", title=f"{name}: {len(space.genes)} genes", title_justify="left")
    for gene in space.genes.values():
        table.add_row(gene.name, "nested" if gene.nested else "alternative", ", ".join(map(str, gene.options)))
    console.print(table)
    largest, smallest = (
        sum(p.numel() for p in space.skeleton(a).parameters()) for a in (space.largest, space.smallest)
    )
    shared = sum(p.numel() for p in Supernet(space).parameters())
    size = f"{space.size:,}" if space.size < 10**9 else f"{space.size:.3g}"
    console.print(
        f"{'' if space.size_is_exact else 'at most '}{size} architectures, {smallest:,} to {largest:,} parameters"
    )
    console.print(f"The supernet holds {shared:,} parameters.")
    for finding in space.check(loaded.example.repeat(2, *(1 for _ in loaded.input_shape))):
        console.print(f"[yellow]Doubt:[/] {finding.message}")


def main() -> None:
    """Entry point: errors become one sentence and an exit code (1 disk, 2 input, 3 infeasible, 130 interrupted)."""
    try:
        app()
    except UserError as error:
        _fail(str(error), 2)
    except Infeasible as error:
        _fail(str(error), 3)
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _fail(f"a file cannot be read or written: {named}", 1)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:  # Typer makes an exit code of Ctrl-C
            raise
        _fail("interrupted; the same command goes on where this one stopped", INTERRUPTED)


def _fail(message: str, code: int) -> None:
    Console(stderr=True).print(f"[red]nas:[/] {message}", highlight=False, soft_wrap=True)
    raise SystemExit(code)
