"""`nas.find`: the whole job in one call, as `nas search` does it."""

import os
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import nullcontext
from math import inf
from pathlib import Path
from typing import Any

from ..errors import UserError, check_least, unknown
from ..hw_profiles import Device, load_device
from ..hw_profiles.policies import policies_for
from ..hw_profiles.serving import Request
from ..search_space.architecture import GeneValue
from ..search_space.space import SearchSpace
from ..search_space.transformer import TransformerSpace
from ..supernet.recipe import Recipe
from ..supernet.store import Supernet
from ..tasks import Task
from ..values import EXAMPLES, Limit, parse_limit
from .answer import Answer
from .costs import OF_REQUESTS, cost_named
from .job import Job
from .origin import Progress, origin_of, silent
from .question import Question
from .reporting.journal import journal
from .run_folder import alone, prepare_run

Target = str | os.PathLike[str] | Device
Limits = Mapping[str, Any] | Sequence[Limit]
AUTO = "auto"


def find(
    space: str | SearchSpace | TransformerSpace | Callable[[Any], Any] | None = None,
    task: str | Task | None = None,
    *,
    targets: Target | Sequence[Target] | Mapping[Any, str | None] = "local-cpu",
    limits: Limits = (),
    objectives: Sequence[str] = (),
    quantize: str | None = None,
    each: bool = False,
    batch: int = 1,
    prompt: int | None = None,
    generate: int | None = None,
    supernet: Supernet | None = None,
    steps: int | None = None,
    recipe: Recipe | None = None,
    device: str = "auto",
    evaluations: int = 200,
    algorithm: str = "auto",
    seed: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    start: Sequence[Mapping[str, GeneValue]] = (),
    baselines: bool = False,
    check: bool = True,
    run: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
    title: str = "",
) -> Answer | dict[str, Answer]:
    """Find the best net of a space for devices and limits: train its supernet, search, measure where a target is at
    hand, choose. This is what `nas search` calls.

    space: a space, a space function, or what `--space` takes: a preset, FILE.yaml, FILE.py:FUNCTION. None: that of
        the supernet, or the task's own.
    task: a `Task`, or its name as `--task` takes it; None: digits.
    targets: a device, several, or a mapping of devices to their latency budgets: `{"jetson-orin": "5ms", "t4": None}`,
        "60%" of the largest net's. A device is one of `nas.device_names()`, a file or a `Device`; this machine comes
        first.
    limits: the most of other costs: `{"params": "2M", "memory_mib": 50}`, for one target of several
        `{"t4": {"energy_mj": "20mJ"}}`, or `Limit`s. Of an estimate its upper end is bounded.
    objectives: names of costs to be made small beside the latency.
    quantize: "auto", or schemes to choose from ("w8a8,w4a16"): bits as genes.
    each: a net for each target, not one for all: the result is a dictionary, in the order of the targets.
    batch: of the deployed net.
    prompt, generate: of a language model, tokens of a prompt and tokens to generate (64 and 32 where one of them is
        stated, or a cost "ttft_ms" or "tpot_ms"): latency, energy and memory are then those of the whole request, with
        a key/value cache.
    supernet: one that is trained already; nothing is trained then.
    steps, recipe, device: of the training (see `Recipe`), and where it and evaluations compute.
    evaluations, algorithm, seed, workers, ray: of the search, as of `nas.search`. start: nets to evaluate first; none:
        those in the run's start.json, if it has one. baselines: compare it with others.
    check: refuse a space whose small nets are no parts of its large ones, before it is trained (as `nas.train`).
    run: a folder to keep all in, from which the same call goes on where one was killed and further questions begin;
        "auto": one in ~/.cache/nas; None: nothing is written.
    progress: called as `progress(stage, done, total, state)`, see `search.origin.Progress`.
    title: of the report.
    Errors: `Infeasible`, with the net of the least cost, where no net keeps a limit; `UserError` for all else.

    >>> answer = nas.find(space, task, targets={"t4": "1ms"}, limits={"params": "9K"}, supernet=supernet, evaluations=6)
    >>> nas.evaluate(answer.model(), task) == answer.quality
    True
    """
    named, budgets = _targets(targets)
    devices, bounds = tuple(named.values()), (*budgets, *_limits(limits, named))
    check_least(1, batch=batch)
    request = _request({*objectives, *(limit.metric.name for limit in bounds)}, batch, prompt=prompt, generate=generate)
    question = Question(tuple(dict.fromkeys(objectives)), evaluations, algorithm, seed, workers, ray, tuple(start))
    policies = None if quantize is None else policies_for(quantize, devices)
    knobs = {**(recipe.model_dump(exclude_unset=True) if recipe else {}), **({} if steps is None else {"steps": steps})}
    made = _space(space, supernet)
    if run == AUTO and supernet is not None:
        raise UserError(f"run={AUTO!r} names the folder after a training; name a folder for a supernet that is given")

    def prepared() -> Job:
        """Errors are raised here: before anything is written, and before the minutes of training."""
        if run is None:
            origin = origin_of(task or "digits", made, knobs)
        else:
            origin = prepare_run(None if run == AUTO else Path(run), task, made, knobs)
        job = Job(
            origin,
            devices,
            question,
            bounds,
            policies,
            each=each,
            batch=batch,
            request=request,
            baselines=baselines,
            title=title or "nas.find",
        )
        job.check()
        if check and supernet is None:
            origin.require_nested()
        return job

    with alone(prepared, lambda job: job.run) as job, journal(job.folder, job.title) if job.folder else nullcontext():
        answers = job.answers(*job.supernet(supernet, progress, device), progress)
    return dict(zip((device.name for device in devices), answers, strict=True)) if each else answers[0]


def _request(costs: Set[str], batch: int, **stated: int | None) -> Request | None:
    given = {name: tokens for name, tokens in stated.items() if tokens is not None}
    return Request(batch=batch, **given) if given or costs & {*OF_REQUESTS} else None


def _space(space: Any, supernet: Supernet | None) -> str | SearchSpace | TransformerSpace | None:
    if space is None and supernet is not None:
        return supernet.space
    if space is None or isinstance(space, str | SearchSpace | TransformerSpace):
        return space
    if not callable(space):
        raise UserError(
            "space must be a SearchSpace, a space function, or a name such as vit-digits, FILE.yaml or "
            f"FILE.py:FUNCTION, got {type(space).__name__}"
        )
    return SearchSpace(space)


def _targets(targets: Any) -> tuple[dict[Any, Device], list[Limit]]:
    """The devices as they were named, and their latency budgets."""
    if isinstance(targets, str | os.PathLike | Device):
        targets = [targets]
    devices = {_key(target): target if isinstance(target, Device) else load_device(target) for target in targets}
    if not devices:
        raise UserError("targets must name at least one device, got none")
    if len({device.name for device in devices.values()}) < len(targets):
        raise UserError(f"each target can be given once, not {', '.join(map(_key, targets))}")
    budgets = targets if isinstance(targets, Mapping) else {}
    stated = {devices[_key(target)].name: text for target, text in budgets.items() if text is not None}
    return devices, [_limit("latency_ms", text, name) for name, text in stated.items()]


def _key(target: Target) -> str:
    return target.name if isinstance(target, Device) else os.fspath(target)


def _limits(limits: Limits, devices: Mapping[str, Device]) -> list[Limit]:
    if not isinstance(limits, Mapping):
        return list(limits)
    results = []
    for name, most in limits.items():
        if not isinstance(most, Mapping):
            results.append(_limit(str(name), most))
        elif _key(name) not in devices:
            raise unknown("target in limits:", _key(name), devices)
        else:
            results += [_limit(cost, own, devices[_key(name)].name) for cost, own in most.items()]
    return results


def _limit(name: str, most: Any, device: str = "") -> Limit:
    """Of a text with a unit, or of a number in the unit of the metric. Errors: no such cost; nothing that bounds it."""
    metric = cost_named(name).metric
    if isinstance(most, str):
        return parse_limit(metric, most, device)
    if not isinstance(most, int | float) or not 0 < most < inf:
        raise UserError(
            f"{metric.title} must be a number above zero or a text such as {EXAMPLES[metric.unit]}, got {most}"
        )
    return Limit(metric, float(most), device)
