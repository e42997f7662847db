"""From the results of a target's script to a device profile. What is not beyond doubt is refused, with the reason."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from ...documents import read_yaml
from ...errors import UserError, quoted
from ...files import read_json
from ..check import bound_ms
from ..device import Device
from ..measuring.profiled import TimedNet, device_of, write_device
from ..measuring.session import Batch, Session, Timed
from ..nearest import nearest
from ..points import Point
from ..schema import Frozen, Runtime, Spec, first_error
from .bundle import Manifest, PackedNet, read_bundle

PHYSICAL_FLOPS_PER_S = {"cpu": 3e13, "npu": 5e14, "embedded-gpu": 5e14, "server-gpu": 1e16}
"""No chip of the kind computes faster, densely and at any precision: a bound where no datasheet is at hand."""
MOST_CONTENT = 64 * 1024
"""Characters of all that the script saw of the machine."""
SHORTEST_MS = 1e-3
"""No runtime takes less for a call."""


class Results(Frozen):
    """results.json, as the target's script writes it; `checksum` is over all that is before it."""

    format: Literal[1]
    bundle: str
    runtime: Literal["onnxruntime", "tensorrt"]
    version: str = Field(min_length=1, max_length=200)
    threads: int
    precision: str = Field(max_length=20)
    environment: dict[str, Any]
    batches: list[Batch] = Field(min_length=1)
    sha256: dict[str, str]
    checksum: str

    @field_validator("environment")
    @classmethod
    def _short(cls, content: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(content)) > MOST_CONTENT:
            raise ValueError(f"it is longer than {MOST_CONTENT:,} characters, which run.py does not write")
        return content


def ingest(
    results: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    like: Device | None = None,
    spec: str | os.PathLike[str] | None = None,
) -> Device:
    """Make a profile of `results` and write it.

    like: a device that shares the target's datasheet and kind; where it is profiled with the same runtime, the fit may
        start there (else from the nearest device of the package that is). spec: a YAML file with the fields of a
        device's `spec`. Numbers that beat what the datasheet allows are kept, marked, and not fitted.
    Errors: results that are damaged, changed, incomplete, of another bundle, or not numbers.
    """
    from ..measuring.profile import profile_path

    path = profile_path(out)
    assert path is not None
    manifest, bundle_id = read_bundle(Path(bundle))
    result = read_results(Path(results))
    _agree(result, manifest, bundle_id)
    base = _base(result, path.stem, like, read_spec(spec))
    session = Session(key={}, slow=manifest.protocol.slow, batches=result.batches)
    timed = session.timed()
    nets = [_net(net, timed[net.family, net.id], base) for net in manifest.nets if (net.family, net.id) in timed]
    device = device_of(base, nets, session, manifest.protocol, nearest(base, [like] if like else None))
    beaten = [net for net in nets if net.implausible]
    notes = [*_environment(result), *(f"Left out of the fit: {n.facts['model']}: {n.implausible}" for n in beaten)]
    device = device.model_copy(update={"notes": [*device.notes, *notes]})
    write_device(device, path)
    return device


def read_results(path: Path) -> Results:
    """Errors: it cannot be read, is cut off, has changed since it was written, or holds what is no number."""
    content = read_json(path, "results")
    if "checksum" not in content:
        raise UserError(f"{path} has no checksum; bring results.json, which run.py writes when it has timed all nets")
    plain = json.dumps({k: v for k, v in content.items() if k != "checksum"}, sort_keys=True).encode()
    if sha256(plain).hexdigest() != content["checksum"]:
        raise UserError(f"{path} has changed since run.py wrote it: its checksum does not hold")
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path} is not valid: {first_error(error)}") from None


def _agree(results: Results, manifest: Manifest, bundle_id: str) -> None:
    """The results are of this bundle, of its very files, and of each net once."""
    if results.bundle != bundle_id:
        raise UserError("the results are of another bundle; give the --bundle that was run")
    for name, run, asked in (
        ("threads", results.threads, manifest.threads),
        ("precision", results.precision, manifest.precision),
    ):
        if run != asked:
            raise UserError(f"the results are of {name} {quoted(run)}; the bundle asks for {quoted(asked)}")
    packed = {net.id: net.sha256 for net in manifest.nets}
    changed = sorted(i for i in {*packed, *results.sha256} if packed.get(i) != results.sha256.get(i))
    if changed:
        raise UserError(f"the nets that were timed are not those of the bundle: {', '.join(changed[:4])}")
    families = {net.id: net.family for net in manifest.nets}
    if odd := [t.net for batch in results.batches for t in batch.nets if families.get(t.net, t.family) != t.family]:
        raise UserError(f"the results name another family than the bundle of {', '.join(odd[:4])}")
    for again in (False, True):
        wanted = sorted(net for batch in manifest.batches if batch.again is again for net in batch.nets)
        timed = sorted(t.net for batch in results.batches if batch.again is again for t in batch.nets)
        twice = sorted({net for net in timed if timed.count(net) > wanted.count(net)})
        if twice:
            raise UserError(f"a net is timed twice or was not asked for: {', '.join(twice[:4])}")
        if timed != wanted:
            raise UserError(f"the results are of {len(timed)} of {len(wanted)} nets; let run.py finish")


def read_spec(path: str | os.PathLike[str] | None) -> Spec | None:
    """The datasheet in a YAML file: the fields of a device's `spec`, or a whole device. Error: it is none."""
    if path is None:
        return None
    content = read_yaml(path, "the datasheet")
    try:
        return Spec.model_validate(content.get("spec", content) if isinstance(content, dict) else content)
    except ValidationError as error:
        raise UserError(f"{path} is not a datasheet (the fields of a device's `spec`): {first_error(error)}") from None


def _base(results: Results, name: str, like: Device | None, spec: Spec | None) -> Device:
    """The target before anything is fitted."""
    facts, gpu = results.environment, results.runtime == "tensorrt"
    mode = facts.get("power_mode") or facts.get("governor")
    title = str(facts.get("machine", name))
    return Device(
        name=name if len(name) > 1 else f"board-{name}",
        title=title if len(title) > 1 else f"board {name}",
        sku=like.sku if like else facts.get("gpu" if gpu else "cpu"),
        unit="GPU" if gpu else f"CPU, {results.threads} thread{'s' * (results.threads > 1)}",
        power_mode=" ".join(str(mode).split()) if mode else None,
        kind=like.kind if like else ("embedded-gpu" if gpu else "cpu"),
        runtime=Runtime(name=results.runtime, version=results.version),
        precision=results.precision,  # type: ignore[arg-type]
        batch_mode="latency",
        spec=spec or (like.spec if like else Spec()),
    )


def _net(net: PackedNet, timed: Timed, base: Device) -> TimedNet:
    cost = net.traced()
    point = Point.of(cost, **net.facts, latency_ms=timed.median_ms, source="results", trust="measured")
    bound, reason = bound_ms(base, point), "the datasheet"
    if not bound:
        bound, reason = max(SHORTEST_MS, 1e3 * cost.flops / PHYSICAL_FLOPS_PER_S[base.kind]), "what such chips can do"
    beaten = timed.median_ms < bound
    why = f"{timed.median_ms:.4g} ms beats {reason}, at least {bound:.4g} ms" if beaten else None
    return TimedNet(cost, timed, net.facts, why)


def _environment(results: Results) -> list[str]:
    """What the script saw of the machine, one line each."""
    return [f"{name.replace('_', ' ')}: {' '.join(str(value).split())}" for name, value in results.environment.items()]
