"""A profile of this machine: informative nets of a space, timed with one runtime, and the model fitted to them."""

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

from ...errors import UserError
from ...tasks import Task, load_task
from ..catalog import load_device
from ..device import Device
from ..nearest import nearest
from ..policies import unsigned_weights
from ..runtimes import load_runtime
from ..schema import Runtime
from .choosing import AGAIN, Plan, chosen_of, nets_again, next_nets, pool_of, reference_of
from .measure import FEWEST, measure_beside
from .memory import peak_memory_mib
from .pool import AnySpace, Inputs, Net, sources
from .profiled import TimedNet, device_of, write_device
from .session import Batch, Session, Timed, add, add_memory, open_session
from .timing import Protocol

PROTOCOL = Protocol(seconds=2.0, precision=0.003, least_turns=40, quiet=True)
SUFFIXES = (".yaml", ".yml", ".json")
Progress = Callable[[float, float, str], None]
"""(nets done, nets in all, what is being done)."""


@dataclass(frozen=True)
class Setting:
    """How nets are run. One thread gives repeatable numbers on shared machines; state what the net will run with.

    memory: peak memory is measured, too, each net in a process of its own.
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1
    protocol: Protocol = PROTOCOL
    seed: int = 0
    memory: bool = False


def profile(
    target: str | os.PathLike[str] | Device,
    space: AnySpace | Sequence[AnySpace],
    nets: int = 60,
    *,
    setting: Setting | None = None,
    task: str | Task = "digits",
    input_shape: Sequence[int] | None = None,
    like: Device | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Device:
    """Time `nets` nets of a space, or of several, on this machine; fit the target's model to them.

    target: a device that is this machine: "local-cpu", or a file that says `measurable: true`.
    input_shape: of one input, without batch; else the task's. A space that is bound to inputs keeps its own.
    like: a device that was profiled with the same runtime, from which the fit may start.
    out: the profile's file, .yaml or .json (`load_device` reads it). Beside it `FILE.progress.json` holds what was
        measured so far; the same call goes on from there, and it is deleted when the profile is written.
    Errors: a target that is not here, a runtime that is not installed, fewer than 5 nets.

    >>> nas.profile(space, task, target="local-cpu", out="here.yaml")  # doctest: +SKIP
    """
    setting, path = setting or Setting(), profile_path(out)
    device = described(_local(target), setting)
    plan = plan_of(device, space, nets, inputs_of(task, input_shape, setting.batch), setting.seed)
    kept = path.with_name(f"{path.name}.progress.json") if path else None
    session = open_session(kept, session_key(plan, setting), setting.protocol.slow)
    plan = _continued(plan, session)
    while chosen := next_nets(plan, session) or nets_again(plan, session):
        batch = _timed(plan, session, chosen, setting, progress or (lambda *_: None))
        session = add(session, batch, kept)
    session = _weighed(plan, session, setting, kept, progress or (lambda *_: None))
    timed, weighed = session.timed(), session.memory_mib
    results = [
        TimedNet(net.cost, timed[net.key], facts(net, setting.batch), memory_mib=weighed.get(_name(net)))
        for net in plan.nets
    ]
    profiled = device_of(device, results, session, setting.protocol, nearest(device, [like] if like else None))
    if path is not None and kept is not None:
        write_device(profiled, path)
        kept.unlink(missing_ok=True)
    return profiled


def profile_path(out: str | os.PathLike[str] | None) -> Path | None:
    """Error: a suffix that `load_device` does not read."""
    if out is None or Path(out).suffix in SUFFIXES:
        return None if out is None else Path(out)
    raise UserError(f"a profile is written to a file that ends in {', '.join(SUFFIXES)}, not to {out}")


def plan_of(device: Device, space: AnySpace | Sequence[AnySpace], nets: int, inputs: Inputs, seed: int = 0) -> Plan:
    """What may be timed, and which of it is. Errors: too few nets asked for, or in the space."""
    pool = pool_of(sources(space, inputs), device, seed)
    if min(nets, len(pool)) < FEWEST:
        raise UserError(f"a profile needs {FEWEST} nets or more, not {min(nets, len(pool))}")
    return Plan(device, tuple(pool), tuple(chosen_of(pool, device, nets)))


def inputs_of(task: str | Task, shape: Sequence[int] | None, batch: int) -> Inputs:
    """The inputs of the nets: a shape, or a task's."""
    if batch < 1:
        raise UserError(f"the batch must be 1 or more, not {batch}")
    if shape is not None:
        return Inputs(tuple(shape), batch)
    loaded = load_task(task) if isinstance(task, str) else task
    return Inputs(loaded.input_shape, batch, loaded.classes, loaded.vocabulary, loaded.example_of(batch))


def described(device: Device, setting: Setting) -> Device:
    """The device as this setting runs it, with nothing fitted yet."""
    runtime, most = load_runtime(setting.runtime), len(cores())
    if not 1 <= setting.threads <= most:
        raise UserError(f"threads must be from 1 to {most}, the cores of this machine, not {setting.threads}")
    if setting.memory and setting.runtime != "onnxruntime":
        raise UserError(f"peak memory is measured with onnxruntime, not with {setting.runtime}; leave --memory out")
    threads = f"{setting.threads} thread{'s' * (setting.threads > 1)}"
    results = {
        "name": f"{device.name}-{setting.runtime}" if device.name == "local-cpu" else device.name,
        "sku": device.sku or processor(),
        "unit": "GPU" if setting.runtime == "tensorrt" else f"CPU, {threads}",
        "runtime": Runtime(name=setting.runtime, version=runtime.version()),
        "batch_mode": "latency" if setting.batch == 1 else "batch-step",
        "threads": setting.threads,
        "fuses": setting.runtime != "torch",
        "supports": device.supports.model_copy(update={"exact_sums": not unsigned_weights(device)}),
        "notes": [f"The process could run on the cores {', '.join(map(str, cores()))}."],
    }
    nothing = dict.fromkeys(("calibration", "validity", "error", "model", "energy_model", "memory_model", "p95_model"))
    return device.model_copy(update=results | nothing)


def cores() -> list[int]:
    """The cores that this process may run on: all, unless it was started under `taskset` or the like.

    They are recorded and left alone. On a busy machine a process that is held to one core waits for it; where cores
    differ, start the command on those that the net will run on.
    """
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))


def processor() -> str:
    """What the system calls this machine's CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return next((name for name in names if len(name) > 1 and not name.isdigit()), platform.machine())


def _continued(plan: Plan, session: Session) -> Plan:
    """The plan with the nets that are timed already: the rates that a choice follows are measured in each process."""
    timed = session.timed()
    begun = [index for index, net in enumerate(plan.pool) if net.key in timed]
    chosen = tuple(dict.fromkeys((*begun, *plan.chosen)))
    return replace(plan, chosen=chosen[: max(len(begun), len(plan.chosen))])


def session_key(plan: Plan, setting: Setting) -> dict[str, Any]:
    """What must be the same for a profile to go on."""
    ids = "".join(net.architecture.id for net in plan.pool) + str(len(plan.chosen))
    return {
        "device": " / ".join(plan.device.key),
        "space": {net.source.family: net.source.shapes for net in plan.pool},
        "choice of nets": sha256(ids.encode()).hexdigest()[:16],
        "setting": asdict(setting),
        "cores": cores(),
    }


def facts(net: Net, batch: int) -> dict[str, Any]:
    """What a point of a calibration says of a net."""
    return {
        "model": net.architecture.id,
        "family": net.source.family,
        "input": " ".join("x".join(map(str, shape[1:])) for shape in net.source.shapes),
        "batch": batch,
        "architecture": dict(net.architecture),
    }


def _local(target: str | os.PathLike[str] | Device) -> Device:
    device = target if isinstance(target, Device) else load_device(target)
    if device.measurable:
        return device
    raise UserError(
        f"{device.name} is not this machine, so nothing can be timed on it here; make a bundle for it with "
        "`nas profile pack`, or give --host user@box"
    )


def _weighed(plan: Plan, session: Session, setting: Setting, kept: Path | None, progress: Progress) -> Session:
    """The session with the peak memory of the nets that were chosen, if that is wanted."""
    for number, net in enumerate(plan.nets if setting.memory else ()):
        if _name(net) not in session.memory_mib:
            progress(number, len(plan.nets), "weighing")
            mib = peak_memory_mib(net.build(), net.source.example, setting.threads)
            session = add_memory(session, _name(net), mib, kept)
    return session


def _name(net: Net) -> str:
    return "/".join(net.key)


def _timed(plan: Plan, session: Session, nets: Sequence[Net], setting: Setting, progress: Progress) -> Batch:
    """One batch, beside the reference net."""
    begun, again = perf_counter(), nets[0].key in session.timed()
    wanted, done = len(plan.chosen), len(session.timed())
    total = wanted + min(AGAIN, wanted)
    what = "timing some again" if again else "timing"
    progress(done, total, "preparing")
    models = [(net.build(), net.source.example) for net in (*nets, reference_of(plan.pool))]
    result, reference = measure_beside(
        models[:-1],
        models[-1],
        protocol=setting.protocol,
        runtime=setting.runtime,
        threads=setting.threads,
        fastest_ms=session.fastest_ms,
        progress=lambda share: progress(done + share * len(nets), total, what),
    )
    timed = [Timed.of(net.key, m) for net, m in zip(nets, result, strict=True)]
    return Batch(nets=timed, reference_ms=reference.median_ms, seconds=perf_counter() - begun, again=again)
