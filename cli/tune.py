"""`nas tune`: a good training recipe for a task and a space."""

import json
from typing import Annotated

import typer
from rich.table import Table

from .common import (
    MOST_PROCESSES,
    MOST_STEPS,
    RunOption,
    SeedOption,
    SpaceOption,
    TaskOption,
    TrustOption,
    app,
    check_words,
    console,
    say,
    trusting,
)


@app.command()
def tune(
    run: RunOption = None,
    task: TaskOption = None,
    space: SpaceOption = None,
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="Recipes to try.")] = 8,
    steps: Annotated[int, typer.Option(min=4, max=MOST_STEPS, help="Optimizer steps, where not stopped early.")] = 300,
    workers: Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="Recipes that are tried at a time.")] = 2,
    seed: SeedOption = 0,
    trust: TrustOption = False,
) -> None:
    """Try training recipes and print the best. Poor ones are stopped early. It needs Ray: `pip install "nas[ray]"`.

    **Examples**

    `nas tune --task digits --trials 8 --workers 2 --steps 300`
    """
    check_words(task, space)
    from ..files import write_atomic
    from ..search.run_folder import alone, prepare_run
    from ..search.tune import tune as tune_recipe

    trusting(trust, run)
    with alone(lambda: prepare_run(run, task, space, {}), lambda run: run) as chosen:
        with console.status("Trying recipes"):
            table = tune_recipe(chosen.space, chosen.task, trials=trials, steps=steps, workers=workers, seed=seed)
        rows = json.loads(table.to_json(orient="records"))
        content = {"task": chosen.task_name, "best": rows[0], "recipes": rows}
        write_atomic(chosen.folder / "tune.json", json.dumps(content, indent=1))
    shown = Table(*map(str, table.columns), title=f"{trials} recipes", title_justify="left")
    for _, row in table.iterrows():
        shown.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row))
    best = rows[0]
    console.print(shown)
    say(f"Best: --lr {best['lr']:g} --sampling {best['sampling']} --distill {best['distill']}")
    say(f"Written to {chosen.folder / 'tune.json'}")
