"""`nas profile`: nets timed on this machine or another, and the device profile that follows."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from .common import MOST_BATCH, MOST_NETS, MOST_PROCESSES, app, check_words, console, say

if TYPE_CHECKING:
    from ..hw_profiles import Device
    from ..hw_profiles.measuring.pool import Inputs

MOST_NUMBERS = 2**28
"""Of one input: a GiB in floats."""
profile_app = typer.Typer(help="Make a device profile: time nets and fit a latency model to them.")
app.add_typer(profile_app, name="profile")

NetsOption = Annotated[int, typer.Option("--nets", min=5, max=MOST_NETS, help="Nets to time.")]
SpacesOption = Annotated[
    list[str] | None, typer.Option("--space", help="PRESET, FILE.yaml or FILE.py:FUNCTION; may be repeated.")
]
TaskOption = Annotated[str, typer.Option("--task", help="The task whose inputs the nets take.")]
InputOption = Annotated[str | None, typer.Option("--input", help="Shape of one input instead: 3x224x224.")]
BatchOption = Annotated[int, typer.Option("--batch", min=1, max=MOST_BATCH, help="Inputs in one call.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, max=MOST_PROCESSES, help="Threads that run a net.")]
LikeOption = Annotated[
    str | None, typer.Option("--like", help="A device like the target: its datasheet, and its profile to start from.")
]
SpecOption = Annotated[Path | None, typer.Option("--spec", help="YAML file with the target's datasheet.")]


@profile_app.callback(invoke_without_command=True)
def profile(
    context: typer.Context,
    target: Annotated[str, typer.Option("--target", help="local-cpu, or a device file of this machine.")] = "local-cpu",
    runtime: Annotated[str, typer.Option(help="onnxruntime, torch, openvino or tensorrt.")] = "onnxruntime",
    nets: NetsOption = 60,
    space: SpacesOption = None,
    task: TaskOption = "digits",
    input_shape: InputOption = None,
    batch: BatchOption = 1,
    threads: ThreadsOption = 1,
    memory: Annotated[bool, typer.Option("--memory", help="Measure peak memory, too (onnxruntime).")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Profile to write. Default: TARGET-RUNTIME.yaml.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="user@box: pack, run there over ssh, ingest.")] = None,
    like: LikeOption = None,
    spec: SpecOption = None,
) -> None:
    """Time nets of a space and write a device profile, to search with as `--target FILE`. Goes on where it stopped.

    **Examples**

    `nas profile --target local-cpu --runtime onnxruntime --nets 60`

    `nas profile --host user@box --like raspberry-pi-5 --out my-board.yaml`
    """
    if context.invoked_subcommand is not None:
        return
    check_words(task, *(space or ()))
    if host is not None:
        _on_host(host, out or Path("my-board.yaml"), like, spec, (space, task, input_shape, batch, nets, threads))
        return
    from ..hw_profiles import load_device
    from ..hw_profiles.measuring.profile import Setting
    from ..hw_profiles.measuring.profile import profile as run

    path = out or Path(f"{Path(target).stem}-{runtime}.yaml")
    with _bar("Profiling") as progress:
        device = run(
            target,
            _spaces(space, task),
            nets,
            setting=Setting(runtime, threads, batch, memory=memory),
            task=task,
            input_shape=_shape(input_shape),
            like=load_device(like) if like else None,
            out=path,
            progress=progress,
        )
    _compare(device, _spaces(space, task), _inputs(task, input_shape, batch))
    _show(device, path)


@profile_app.command("pack")
def pack_bundle(
    out: Annotated[Path, typer.Option("--out", help="Bundle to write: a .zip file.")] = Path("bundle.zip"),
    like: LikeOption = None,
    nets: NetsOption = 60,
    space: SpacesOption = None,
    task: TaskOption = "digits",
    input_shape: InputOption = None,
    batch: BatchOption = 1,
    threads: ThreadsOption = 1,
) -> None:
    """Make a bundle for another machine: ONNX files and one script, run.py, that needs onnxruntime or trtexec.

    **Examples**

    `nas profile pack --out bundle.zip`

    `nas profile pack --like jetson-orin --nets 40 --out orin.zip`
    """
    check_words(task, *(space or ()))
    _pack(out, like, (space, task, input_shape, batch, nets, threads))
    say(f"{out}, {out.stat().st_size / 2**20:.1f} MiB. On the target: unpack it, `python3 run.py`; at home:")
    say(f"nas profile ingest results.json --bundle {out} --out my-board.yaml")


@profile_app.command("ingest")
def ingest_results(
    results: Annotated[Path, typer.Argument(help="results.json, as run.py wrote it.")],
    bundle: Annotated[Path, typer.Option("--bundle", help="The bundle that was run.")] = Path("bundle.zip"),
    out: Annotated[Path, typer.Option("--out", help="Profile to write.")] = Path("my-board.yaml"),
    like: LikeOption = None,
    spec: SpecOption = None,
) -> None:
    """Make a device profile of what a bundle's script measured on another machine.

    **Example**

    `nas profile ingest results.json --bundle bundle.zip --out my-board.yaml --like raspberry-pi-5`
    """
    from ..hw_profiles import load_device
    from ..hw_profiles.remote import ingest

    device = ingest(results, bundle, out, like=load_device(like) if like else None, spec=spec)
    _show(device, out)


Choice = tuple[list[str] | None, str, str | None, int, int, int]
"""(spaces, task, input, batch, nets, threads)."""


def _pack(out: Path, like: str | None, choice: Choice) -> None:
    from ..hw_profiles import load_device
    from ..hw_profiles.remote import pack

    space, task, input_shape, batch, nets, threads = choice
    inputs = _inputs(task, input_shape, batch)
    with _bar("Packing") as progress:
        device = load_device(like or "local-cpu")
        pack(device, _spaces(space, task), out, inputs=inputs, nets=nets, threads=threads, progress=progress)


def _on_host(host: str, out: Path, like: str | None, spec: Path | None, choice: Choice) -> None:
    """The bundle stays beside the profile: a run that was stopped goes on with it."""
    from ..hw_profiles import load_device
    from ..hw_profiles.measuring.profile import profile_path
    from ..hw_profiles.remote import check_host, ingest, read_spec, run_on_host

    profile_path(out), read_spec(spec)  # before the minutes of packing
    check_host(host)
    bundle, results = (out.with_name(f"{out.stem}.{name}") for name in ("bundle.zip", "results.json"))
    if not bundle.exists():
        _pack(bundle, like, choice)
    run_on_host(host, bundle, results)
    _show(ingest(results, bundle, out, like=load_device(like) if like else None, spec=spec), out)


def _inputs(task: str, input_shape: str | None, batch: int) -> "Inputs":
    from ..hw_profiles.measuring.profile import inputs_of

    return inputs_of(task, _shape(input_shape), batch)


def _shape(text: str | None) -> tuple[int, ...] | None:
    from ..errors import UserError, quoted

    if text is None:
        return None
    parts = text.split("x")
    shape = tuple(int(part) for part in parts if re.fullmatch("[0-9]{1,9}", part))
    if len(shape) < len(parts) or not 0 < math.prod(shape) <= MOST_NUMBERS:
        raise UserError(
            f"--input {quoted(text)} is not a shape; give sizes without the batch, as in 3x224x224, of at most "
            f"{MOST_NUMBERS:,} numbers in all"
        )
    return shape


def _spaces(spaces: list[str] | None, task: str) -> list[str]:
    """The task's own space where none is named."""
    if spaces:
        return spaces
    from ..tasks import load_task

    return [load_task(task).space]


@contextmanager
def _bar(title: str) -> Iterator[Callable[[float, float, str], None]]:
    """A bar with an ETA, drawn only on request: a thread that draws would disturb what is timed."""
    columns = (
        TextColumn(title),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=not console.is_terminal) as bar:
        task = bar.add_task("", total=1)

        def update(done: float, total: float, remark: str) -> None:
            text = f"{done:.0f} of {total:.0f} nets, {remark}"
            bar.update(task, completed=done, total=total, description=text, refresh=console.is_terminal)

        yield update


def _compare(device: "Device", spaces: list[str], inputs: "Inputs") -> None:
    """The latency model beside learned predictors, for each space of which enough nets were timed."""
    from ..hw_profiles.measuring.pool import sources
    from ..predictors.latency import Timed

    for source in sources(spaces, inputs):
        with console.status("Comparing predictors"):
            result = Timed.of(device, source.space, partial(source.cost, precision=device.precision)).compare()
        if result is None:
            continue
        table = Table("predictor", "error", "median", "Kendall tau", title=f"{source.family}: nets left out")
        for name, row in result.iterrows():
            table.add_row(str(name), f"{row['mape']:.1%}", f"{row['median_ape']:.1%}", f"{row['tau']:.3f}")
        console.print(table)


def _show(device: "Device", path: Path) -> None:
    from ..hw_profiles.models.rank import LEAST

    error, nets = device.error, len(device.nets)
    table = Table(title=f"{device.name}: {device.runtime}", title_justify="left", show_header=False)
    rows: dict[str, Any] = {"nets": nets}
    if error is not None:
        rows["tier"] = f"{error.tier}, measured"
        rows["error"] = f"{error.leave_one_out:.1%} in the mean, for nets left out of the fit"
        if error.leave_family_out is not None:
            rows["error, other space"] = f"{error.leave_family_out:.1%}, for a space left out of the fit"
        if error.rank is not None:
            rows["order"] = f"Kendall tau {error.rank:.2f}, of nets left out"
            if error.rank < LEAST:
                rows["order"] += (
                    f": below {LEAST}, so that it predicts nothing; time more nets, and such as differ more"
                )
        rows["true over predicted"] = f"at most {error.quantile_90:.3f} for nine nets of ten"
        rows["noise"] = f"{error.noise:.1%} between two timings of a net" if error.noise is not None else "unknown"
    memory = device.memory_model
    if memory is not None and memory.error is not None:
        rows["peak memory"] = f"{memory.error:.1%} off in the mean, for nets left out of the fit"
    if device.p95_model is not None:
        rows["p95"] = f"{device.p95_model.error:.1%} off in the mean, for nets left out of the fit"
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    for note in device.notes:
        say(note, "Note:", "dim")
    say(f"Written to {path}: `nas search --target {path}`")
