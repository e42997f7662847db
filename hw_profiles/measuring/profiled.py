"""From timed nets to a device: points, a fitted model, and how far its predictions are off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...errors import UserError
from ...files import write_atomic
from ..cost import Cost, fused
from ..device import Device
from ..models.latency import LatencyModel
from ..points import Calibration, Error, Point, Validity
from .measure import FEWEST, measured_tier
from .session import Session, Timed
from .timing import Protocol

SOURCE = "measured by `nas profile`"
STATISTIC = "median of calls that kept their core, drift divided out by a reference net"
SCOPE = "one call of the whole net, from inputs in memory to outputs in memory"


@dataclass(frozen=True)
class TimedNet:
    """A net with its cost and what it took; `facts` are fields of `Point` (family, model, input, architecture)."""

    cost: Cost
    timed: Timed
    facts: Mapping[str, Any]
    implausible: str | None = None
    memory_mib: float | None = None


def device_of(
    base: Device, nets: Sequence[TimedNet], session: Session, protocol: Protocol, like: Device | None = None
) -> Device:
    """`base` with the nets as its calibration and the model fitted to them; `like` is a device to start from.

    Error: too few nets.
    """
    believed = [net for net in nets if net.implausible is None]
    if len(believed) < FEWEST:
        raise UserError(f"a profile needs {FEWEST} measured nets or more, not {len(believed)}")
    noise = session.repeat_noise or 0.0
    calibration = Calibration(
        source=SOURCE,
        trust="measured",
        statistic=STATISTIC,
        scope=SCOPE,
        warmup=f"{protocol.warmup} calls, and one before each turn",
        points=[_point(net, base) for net in nets],
    )
    model = fit_model(believed, base, noise, like=like)
    results = {
        "calibration": calibration,
        "validity": Validity.of(calibration),
        "error": Error(
            tier=model.tier,
            leave_one_out=model.error or 0.0,
            leave_family_out=_family_error(believed, base, noise),
            rank=model.rank,
            quantile_90=model.high_factor,  # the upper end of a two-sided interval: nearer to 95 %
            noise=noise,
        ),
        "notes": [*base.notes, *session_notes(session), *_start_notes(model, like)],
    }
    return base.model_copy(update=results).with_model(model).fitted()


def _family_error(nets: Sequence[TimedNet], device: Device, noise: float) -> float | None:
    """Mean error for the nets of a space, predicted from the other spaces; None where there is one space only."""
    families = [net.timed.family for net in nets]
    return fit_model(nets, device, noise, groups=families).error if len(set(families)) > 1 else None


def session_notes(session: Session) -> list[str]:
    """What a reader should know of how the numbers came about."""
    return [
        f"Measured in {session.seconds / 60:.1f} minutes, {len(session.sound)} batches.",
        f"Batches that were slow as a whole and do not count: {len(session.batches) - len(session.sound)}.",
        f"The reference net drifted by {session.drift - 1:.1%} between batches; that is divided out.",
        f"{session.left_out:.1%} of the calls lost their core or ran beside a disturbance; they do not count.",
    ]


def _start_notes(model: LatencyModel, like: Device | None) -> list[str]:
    if like is None:
        return []
    if model.start is not None:
        return [f"The fit started from the profile of {like.name}: nets left out are predicted better so."]
    return [f"The fit started from the datasheet: the profile of {like.name} predicts nets left out no better."]


def fit_model(
    nets: Sequence[TimedNet],
    device: Device,
    noise: float,
    *,
    groups: Sequence[str] | None = None,
    like: Device | None = None,
) -> LatencyModel:
    """The model of timed nets; with groups, its error and interval are those of groups left out."""
    costs, latencies = [device.as_run(net.cost) for net in nets], [net.timed.median_ms for net in nets]
    tier = measured_tier(len(nets))
    return LatencyModel.fit(costs, latencies, device, groups, like=like, tier=tier, noise=noise)


def write_device(device: Device, path: Path) -> Path:
    """The profile as YAML (or JSON, by the suffix) that `load_device` reads."""
    if path.suffix == ".json":
        return write_atomic(path, device.to_json())
    content = device.model_dump(mode="json", exclude_defaults=True)
    return write_atomic(path, yaml.safe_dump(content, sort_keys=False, width=120, default_flow_style=None))


def _point(net: TimedNet, device: Device) -> Point:
    """Rounded: ten digits of a FLOP count tell nobody anything."""
    t = net.timed
    return Point.of(
        fused(net.cost, device.runtime.name),
        **net.facts,
        latency_ms=float(f"{t.median_ms:.5g}"),
        p95_ms=float(f"{t.p95_ms:.5g}"),
        noise=float(f"{t.noise:.3g}"),
        activation_mib=float(f"{net.cost.peak_activation_bytes / 2**20:.5g}"),
        memory_mib=None if net.memory_mib is None else float(f"{net.memory_mib:.5g}"),
        implausible=net.implausible,
        source=SOURCE,
        trust="measured",
    )
