"""python -m research study capacity, multimodal and diffusion: where the source leaves off."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hyperagg.cli.options import Resume, Seeds, output_folder, say, tell
from research.cli.study import app


@app.command(epilog="Example: python -m research study capacity --part retrieval --out capacity")
def capacity(
    part: Annotated[
        Literal["retrieval", "tasks", "all"],
        typer.Option(help="Tokens found again in a sum, tasks that are trained, or both."),
    ] = "all",
    tasks: Annotated[
        str | None, typer.Option(help="Which tasks, separated by commas; else all.")
    ] = None,
    dimensions: Annotated[
        str | None, typer.Option(help="d, separated by commas; else those of each part and task.")
    ] = None,
    lengths: Annotated[str | None, typer.Option(help="The same of n.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of training, for the tasks.")] = 500,
    seeds: Seeds = 1,
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("runs/capacity"),
    resume: Resume = False,
) -> None:
    """How many tokens fit into d dimensions: measured, predicted, and in tasks that are learned."""
    size: dict[str, Any] = {
        "dimensions": _numbers("--dimensions", dimensions),
        "lengths": _numbers("--lengths", lengths),
    }
    shown: dict[str, Any] = {"resume": resume, "progress": sys.stderr.isatty()}
    tables: list[str] = []
    with output_folder(out):
        try:
            if part != "tasks":
                from research.studies.capacity import retrieval, retrieval_tables

                tables += retrieval_tables(retrieval(out, **size, **shown)).values()
            if part != "retrieval":
                from hyperagg.cli.lm import quiet

                quiet()
                from research.studies.capacity_tasks import TASKS, task_tables, trained_tasks

                names = [name.strip() for name in tasks.split(",")] if tasks else list(TASKS)
                done = trained_tasks(
                    out / "tasks",
                    tasks=names,
                    steps=steps,
                    seeds=seeds,
                    say=tell,
                    **size,
                    **shown,
                )
                tables += task_tables(done).values()
        except KeyboardInterrupt:
            if any(out.rglob("runs.json")):
                say(f"stopped; what is measured is in {out}, go on with this command and --resume")
            raise
    print("\n".join(tables))
    print(f"results.json and tables in {out}")


@app.command(epilog="Example: python -m research study multimodal --part digits --seeds 3")
def multimodal(
    part: Annotated[
        Literal["digits", "reviews", "subsets", "speed", "all"],
        typer.Option(
            help="Written and spoken digits, reviews with numbers, three modalities in any subset, "
            "or seconds a step."
        ),
    ] = "all",
    seeds: Seeds = 3,
    out: Annotated[Path, typer.Option(help="Folder for a folder a part.")] = Path(
        "runs/multimodal"
    ),
    resume: Resume = False,
) -> None:
    """Several modalities in one sum, beside concatenation, attention, ridge and boosting."""
    from research.benchmarks.multimodal import bench_multimodal
    from research.studies.multimodal.run import PARTS, run_part

    chosen = (*PARTS, "speed") if part == "all" else (part,)
    with output_folder(out):
        try:
            for name in chosen:
                if name == "speed":
                    print(bench_multimodal(out / name))
                    continue
                for table in run_part(name, out, seeds, resume=resume):
                    print(table)
        except KeyboardInterrupt:
            say(f"stopped; what is measured is in {out}, go on with this command and --resume")
            raise
    print(f"results.json and tables in {', '.join(str(out / name) for name in chosen)}")


@app.command(epilog="Example: python -m research study diffusion --steps 500 --samples 100")
def diffusion(
    mixers: Annotated[str, typer.Option(help="Separated by commas.")] = "aggregation,attention",
    patch_size: Annotated[int, typer.Option(min=1, help="Pixels of a patch's side.")] = 4,
    d_model: Annotated[int, typer.Option(min=2, help="Dimension of the vectors.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="How many blocks.")] = 6,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimizer.")] = 3000,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-6, help="At its highest; else each mixer's best.")
    ] = None,
    samples: Annotated[int, typer.Option(min=10, help="Pictures to draw and judge.")] = 500,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to train with.")] = 1,
    speed: Annotated[bool, typer.Option(help="Measure seconds of a step and a picture.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("runs/diffusion"),
    resume: Resume = False,
) -> None:
    """Written digits drawn by aggregation and by attention, judged by a classifier of real ones."""

    from hyperagg.data.datasets.digits import load_mnist
    from hyperagg.diffusion.trainer import TrainingConfig
    from research.benchmarks.diffusion import bench_denoisers, speed_table
    from research.studies.diffusion import compare_denoisers, denoisers_table

    digits = load_mnist()
    with output_folder(out):
        try:
            results = compare_denoisers(
                digits,
                out,
                mixers=[name.strip() for name in mixers.split(",") if name.strip()],
                patch_size=patch_size,
                d_model=d_model,
                layers=layers,
                recipe=TrainingConfig(steps=steps),
                learning_rate=learning_rate,
                samples=samples,
                seeds=seeds,
                resume=resume,
                progress=sys.stderr.isatty(),
                say=tell,
            )
            print(denoisers_table(results))
            if speed:
                print(speed_table(bench_denoisers(out / "speed", d_model=d_model, layers=layers)))
        except KeyboardInterrupt:
            say(f"stopped; what is there is in {out}, go on with this command and --resume")
            raise
    print(f"results.json, table.md, pictures and models in {out}")


def _numbers(option: str, given: str | None) -> list[int] | None:
    try:
        return [int(number) for number in given.split(",")] if given else None
    except ValueError as error:
        raise ValueError(f"{option} {given}: give whole numbers, separated by commas") from error
