"""Which quantization policies the targets of a search run, and in which form: by what their files state."""

from collections.abc import Sequence

from ..errors import UserError
from ..search_space.quantization import FORMATS, USUAL, Quantization, Scheme
from .device import Device


def runs(device: Device, scheme: Scheme) -> bool:
    """Whether a part of a net can have this scheme there."""
    return any(device.supports.has(precision, device.spec) for precision in scheme.precisions)


def unsigned_weights(device: Device | None) -> bool:
    """Whether ONNX files for it hold weights of 8 bits as unsigned codes: sums of signed ones lose something there.

    Where its file does not say so, the CPU of this machine is tried; of another CPU, or of None, nothing is known.
    """
    if device is None:
        return True
    from .runtimes.onnxruntime import exact_sums

    stated = device.supports.exact_sums
    if stated is None and device.kind == "cpu":
        return not (device.measurable and exact_sums())
    return stated is False


def policies_for(text: str, devices: Sequence[Device]) -> Quantization:
    """What a user wants to choose from (see `Quantization.parse`) for nets that run on all of these devices.

    `auto` leaves out what one of them does not run. Errors: those of `Quantization.parse`; a scheme that is named and
    that a device does not run; nothing that all of them run.
    """
    if text.strip().lower() == "auto" and not any(_all_run(devices, s) for s in USUAL):
        raise UserError(f"no quantization scheme runs on all targets: {'; '.join(map(_supported, devices))}")
    result = Quantization.parse(text, lambda scheme: _all_run(devices, scheme))
    for device in devices:
        for scheme in result.schemes:
            if not runs(device, scheme):
                needs = "" if scheme.text in scheme.precisions else f", which needs {' or '.join(scheme.precisions)}"
                raise UserError(f"{device.name} does not run {scheme.text}{needs}; {_supported(device)}")
    return result


def _all_run(devices: Sequence[Device], scheme: Scheme) -> bool:
    return all(runs(device, scheme) for device in devices)


def _supported(device: Device) -> str:
    names = [scheme.text for scheme in (*USUAL, FORMATS["bf16"]) if runs(device, scheme)]
    return f"{device.name} runs {', '.join(names) or 'none'}"
