"""`nas adopt`: a trained model made elastic."""

from pathlib import Path
from typing import Annotated

import typer

from .common import TaskOption, app, check_words, console, say


@app.command()
def adopt(
    model: Annotated[str, typer.Argument(help="Folder, FILE.gguf, hub id, minilm or smollm2.")],
    run: Annotated[Path, typer.Option("--run", help="Run folder to make.")],
    task: TaskOption = None,
    ffn: Annotated[str | None, typer.Option(help="Fractions of each FFN that nets may have: 0,0.5,1.")] = None,
    heads: Annotated[str | None, typer.Option(help="The same of key/value heads.")] = None,
    group: Annotated[str | None, typer.Option(help="The same of the query heads that share one.")] = None,
    uniform: Annotated[bool, typer.Option("--uniform", help="One size for all layers, and layers left out.")] = False,
    scored: Annotated[
        bool,
        typer.Option(
            "--score/--no-score", help="Sort heads and channels by importance, and score what searches begin with."
        ),
    ] = True,
) -> None:
    """Make a trained model elastic: a run whose largest net is the model. It needs `pip install "nas[adopt]"`.

    **Examples**

    `nas adopt smollm2 --run runs/smollm2 --task text:my-docs`

    `nas adopt ./my-llama --run runs/llama --uniform --ffn 0.5,0.75,1`
    """
    from ..lock import locked
    from ..search_space.adopted.fractions import fractions_in
    from ..supernet.adopt.source import source_of

    check_words(task)
    elastic = {
        name: fractions_in(name, text) for name, text in (("ffn", ffn), ("heads", heads), ("group", group)) if text
    }
    source = source_of(model)

    from ..search.adopting import adopted_run, check_new
    from .live import Display

    check_new(run)
    with locked(run, say), Display(console) as progress:
        sizes = {**elastic, "uniform": uniform}
        made = adopted_run(run, source, task, elastic=sizes, scored=scored, progress=progress)
    say(f"Adopted: {made.folder} ({len(made.space.genes)} genes); search it with `nas search --run {made.folder}`")
