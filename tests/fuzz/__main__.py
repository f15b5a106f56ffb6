"""Damage saved models, data files, images and audio at random, and read them.

python -m tests.fuzz --seconds 120
python -m tests.fuzz --seconds 3600 --kinds classifier,language --out results/fuzz
python -m tests.fuzz --cases 500 --kinds image,audio --seed 500 --out results/fuzz --add
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hyperagg._common.report import environment, write_results
from hyperagg.cli._runner import run_app
from tests.fuzz.campaign import ALL_KINDS, WORKERS, add_counts, counts_table, run_campaign

app = typer.Typer(add_completion=False)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(help="When to stop, counted from the start.")] = 120,
    kinds: Annotated[
        str, typer.Option(help=f"Kinds, separated by commas: {', '.join(ALL_KINDS)}.")
    ] = ",".join(ALL_KINDS),
    cases: Annotated[
        int | None, typer.Option(min=1, help="Cases per kind after which it ends.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first case; the others follow.")] = 0,
    workers: Annotated[int, typer.Option(help="Number of processes.")] = WORKERS,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and table.md.")] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add to what is in results.json there, of other seeds.")
    ] = False,
) -> None:
    """Read damaged inputs, each in a process with limits of time and memory.

    The exit code is 1 if any of them is neither refused in one line nor read.
    """
    chosen = kinds.split(",")
    if unknown := [kind for kind in chosen if kind not in ALL_KINDS]:
        raise ValueError(f"--kinds {unknown[0]}: expected one of {', '.join(ALL_KINDS)}")
    counts = run_campaign(chosen, seconds=seconds, cases=cases, seed=seed, workers=workers)
    results = {kind: each.as_dict() for kind, each in counts.items()}
    for kind, each in results.items():
        failures = each["failures"]
        print(kind, ", ".join(f"{k} {v}" for k, v in each.items() if k != "failures"))
        print("".join(f"  {line}\n" for line in failures), end="")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        options = {"seconds": seconds, "cases": cases, "seed": seed, "kinds": chosen}
        written = {"environment": environment(), "calls": [options], "kinds": results}
        if add and (out / "results.json").exists():
            before = json.loads((out / "results.json").read_text("utf-8"))
            written["calls"] = [*before["calls"], options]
            written["kinds"] = add_counts(before["kinds"], results)
        write_results(out, written)
        (out / "table.md").write_text(counts_table(written), "utf-8")
    if any(each["failures"] for each in results.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    run_app(app, "python -m tests.fuzz")
