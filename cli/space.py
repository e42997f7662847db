"""`nas space`: a look at search spaces."""

from typing import Annotated

import typer
from rich.table import Table

from .common import app, check_words, console, say

space_app = typer.Typer(no_args_is_help=True, help="Look at search spaces.")
app.add_typer(space_app, name="space")


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
    check_words(task, name)
    from ..search_space.locate import describe_space, space_from
    from ..supernet.store import Supernet
    from ..tasks import load_task

    loaded = load_task(task)
    space = space_from(describe_space(name, **loaded.interface))
    table = Table("gene", "kind", "options", title=f"{name}: {len(space.genes)} genes", title_justify="left")
    for gene in space.genes.values():
        table.add_row(gene.name, "nested" if gene.nested else "alternative", ", ".join(map(str, gene.options)))
    console.print(table)
    largest, smallest = (
        sum(p.numel() for p in space.skeleton(a).parameters()) for a in (space.largest, space.smallest)
    )
    shared = sum(p.numel() for p in Supernet(space).parameters())
    size = f"{space.size:,}" if space.size < 10**9 else f"{space.size:.3g}"
    say(f"{'' if space.size_is_exact else 'at most '}{size} architectures, {smallest:,} to {largest:,} parameters")
    say(f"The supernet holds {shared:,} parameters.")
    for finding in space.check(loaded.example_of(2)):
        say(finding.message, "Doubt:")
