"""`nas devices`: what is known of the devices."""

from rich.table import Table

from .common import app, console


@app.command()
def devices() -> None:
    """List the devices that nets can be searched for.

    **Example**

    `nas devices`
    """
    from ..hw_profiles import device_names, load_device

    table = Table("name", "device", "runtime", "precision", "latency is", "tier")
    for name in device_names():
        device = load_device(name)
        model = device.model
        source = "measured here" if device.measurable else (model.source if model else "analytic")
        tier = model.tier if model else "D"
        table.add_row(name, device.title, device.runtime or "datasheet only", device.precision, source, tier)
    console.print(table, "Tiers: A, B measured here; C published points; D datasheet only")
