"""`nas devices`: what is known of the devices, from whom, and whether it holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .common import app, console, say

if TYPE_CHECKING:
    from ..hw_profiles.facts import Compared

devices_app = typer.Typer(invoke_without_command=True)
app.add_typer(devices_app, name="devices")
Names = Annotated[list[str] | None, typer.Argument(help="Device names or files. Default: all of the package.")]
BAR = 12
"""Characters of a bar of the error, to either side of zero."""


@devices_app.callback()
def devices(context: typer.Context) -> None:
    """List the devices that nets can be searched for; look at one, or check them.

    **Examples**

    `nas devices`

    `nas devices show jetson-orin --html jetson-orin.html`

    `nas devices check my-board.yaml`
    """
    if context.invoked_subcommand is not None:
        return
    from ..hw_profiles.catalog import device_names, listed_device
    from ..hw_profiles.holdout import factor

    table = Table("name", "runtime", "precision", "tier", "points", "90 % in")
    for column in (0, 2, 3, 5):
        table.columns[column].no_wrap = True
    with console.status("Fitting profiles, once"):
        listed = {name: listed_device(name) for name in device_names()}
    for name, device in listed.items():
        tier = device.model.tier if device.model else "D"
        points = str(len(device.nets)) if device.nets else "measured here" if device.measurable else "datasheet only"
        table.add_row(
            name,
            str(device.runtime).replace(" by the authors", ""),
            device.precision,
            tier,
            points,
            f"x/÷ {factor(device):.2g}",
        )
    console.print(table)
    console.print(
        "Tiers: A, B measured by `nas profile`; C published points; D datasheet only. `nas devices show NAME`"
    )


@devices_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Device name or file.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the calibration plot.")] = None,
) -> None:
    """Show a profile: facts with their sources, calibration, error.

    **Examples**

    `nas devices show t4`

    `nas devices show my-board.yaml --html my-board.html`
    """
    from ..files import write_atomic
    from ..hw_profiles import facts, load_device
    from ..hw_profiles.holdout import error_of
    from ..hw_profiles.page import device_page

    device = load_device(name)
    if html is not None:
        write_atomic(html, device_page(device))
        say(f"Written to {html}")
        return
    with console.status("Leaving out each net in turn"):
        error, compared = error_of(device), facts.compare(device)
    _rows(device.name, facts.key_rows(device))
    _spec([(what, f"{v.value:g} {unit}", facts.value_text(v)) for what, unit, v in device.spec.rows()])
    _rows("Supports", facts.support_rows(device))
    _rows("Calibration", facts.calibration_rows(device))
    _points(compared, "per s" if device.batch_mode == "throughput" else "ms")
    _rows("Values that disagree", facts.conflict_rows(device))
    _rows("Error", facts.error_rows(device, error))
    for note in device.notes:
        say(note, "Note:")


@devices_app.command("check")
def check(names: Names = None) -> None:
    """Check profiles against their own data: schema, roofline bounds, duplicates, errors. Exit code 2: findings.

    **Examples**

    `nas devices check`

    `nas devices check my-board.yaml`
    """
    from ..hw_profiles.check import check_all

    with console.status("Checking"):
        result = check_all(names or ())
    for name, findings in result.items():
        for finding in findings:
            say(finding, f"{name}:", "red")
    wrong = sum(bool(findings) for findings in result.values())
    console.print(f"{len(result)} profiles, {len(result) - wrong} sound, {wrong} with findings")
    if wrong:
        raise typer.Exit(2)


@devices_app.command("schema")
def schema() -> None:
    """Print the JSON schema of device files, for editors and validators.

    **Example**

    `nas devices schema > device.schema.json`
    """
    from ..hw_profiles.catalog import json_schema

    print(json_schema(), end="")


def _rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", show_header=False)
    for label, text in rows:
        table.add_row(label, text)
    console.print(table)


def _spec(rows: Sequence[tuple[str, str, str]]) -> None:
    table = Table("what", "value", "says who", title="Datasheet", title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table if rows else "Datasheet: nothing is stated")


def _points(compared: Sequence["Compared"], unit: str) -> None:
    """Each net with a bar for how far its prediction is off: to the left too low, to the right too high."""
    table = Table("net", "input", f"published {unit}", f"predicted {unit}", "off by", title_justify="left")
    table.title = "Predicted from the other points"
    table.columns[-1].no_wrap = True
    for c in compared:
        off = c.predicted / c.published - 1
        size = f"batch {c.net.batch} x {c.net.input}" if c.net.batch > 1 else c.net.input
        numbers = f"{c.published:.4g}", f"{c.predicted:.4g}"
        table.add_row(c.net.model, size, *numbers, f"{_bar(off)} {100 * off:+.0f} %")
    if compared:
        console.print(table)


def _bar(off: float) -> str:
    """A full side is 50 %."""
    length = min(BAR, round(abs(off) * 2 * BAR))
    left, right = ("█" * length, "") if off < 0 else ("", "█" * length)
    return f"{left:>{BAR}}│{right:<{BAR}}"
