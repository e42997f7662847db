"""A device file that says as little as it may."""

from nas.hw_profiles.device import Device

SOURCE = {"kind": "vendor", "source": "a datasheet"}


def a_device(**more: object) -> Device:
    """A GPU of 100 TFLOP/s in fp16 and 200 in int8, with these parts of the file in place of its own."""
    content = {
        "name": "chip",
        "title": "Chip",
        "unit": "GPU",
        "kind": "server-gpu",
        "runtime": {"name": "tensorrt", "version": "10"},
        "precision": "fp16",
        "spec": {"tflops": {"fp16": {"value": 100} | SOURCE, "int8": {"value": 200} | SOURCE}},
    }
    return Device.model_validate(content | more)
