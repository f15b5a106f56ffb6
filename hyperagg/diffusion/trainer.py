"""Training a denoiser, by Accelerate on whatever is there, and the folder it is kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from diffusers import DDIMScheduler
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn

from hyperagg._common.atomic import atomic_write
from hyperagg._common.checkpoint import remove_checkpoint
from hyperagg.diffusion.model import Denoiser
from hyperagg.diffusion.pipeline import DenoiserPipeline
from hyperagg.diffusion.training_run import DenoiserRun, Recipe, config_of, new_scheduler

__all__ = ["Recipe", "Trained", "checkpoint_of", "complete", "train_denoiser"]


@dataclass(frozen=True)
class Trained:
    """What a training was.

    Args:
        pipeline: with the running mean of the weights.
        steps: of the optimizer.
        seconds: of wall clock, over all calls.
        loss: [(step, mean loss since the one before)].
    """

    pipeline: DenoiserPipeline
    steps: int
    seconds: float
    loss: list[tuple[int, float]]


def checkpoint_of(out: Path) -> Path:
    """Where the state of an interrupted training is."""
    return out / "training.safetensors"


def train_denoiser(
    denoiser: Denoiser,
    images: np.ndarray,
    labels: np.ndarray,
    out: Path,
    recipe: Recipe = Recipe(),
    *,
    names: Sequence[str] | None = None,
    resume: bool = False,
    shown: bool = True,
) -> Trained:
    """Train a denoiser in place and save a `DenoiserPipeline` with it in `out`.

    Everything random in a step comes from the seed and the number of the step, so a training that
    was stopped and resumed ends with the same weights. Runs in one process, or in each of those
    that `accelerate launch` starts.

    Args:
        denoiser: with new weights.
        images: (rows, height, width) or (rows, height, width, channels) uint8.
        labels: (rows,) class numbers.
        out: the folder to save it in, and the state to resume from while it trains.
        recipe: how.
        names: of the classes.
        resume: go on from the state in `out`, if there is one.
        shown: a progress bar.

    Raises:
        ValueError: a rate that is none, a batch that does not divide among the processes, or a
            state that comes of another model or recipe.
    """
    if not 0 < recipe.learning_rate < float("inf"):
        raise ValueError(f"learning_rate={recipe.learning_rate}: give a number above 0")
    accelerator = Accelerator(mixed_precision="bf16" if recipe.bf16 else "no")
    if recipe.batch_size % accelerator.num_processes:
        raise ValueError(
            f"batch_size={recipe.batch_size}: does not divide among "
            f"{accelerator.num_processes} processes"
        )
    run = DenoiserRun(denoiser, images, labels, recipe, accelerator)
    path = checkpoint_of(out)
    if resume and path.exists():
        run.load(path)
    columns = ("{task.description}", BarColumn(), "{task.fields[state]}", TimeRemainingColumn())
    shown = shown and accelerator.is_main_process
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("training", total=recipe.steps, completed=run.step, state="")
        while run.step < recipe.steps:
            run.advance()
            loss = f"  loss {run.log[-1][1]:.4f}" if run.log else ""
            state = f"step {run.step}/{recipe.steps}{loss}"
            bar.update(task, completed=run.step, state=state)
            if run.step % recipe.save_steps == 0 and accelerator.is_main_process:
                run.save(path)
    run.take_mean()
    id2label = {str(i): name for i, name in enumerate(names or ())}
    scheduler = new_scheduler(DDIMScheduler)
    pipeline = DenoiserPipeline(denoiser.eval(), scheduler, id2label)
    if accelerator.is_main_process:
        pipeline.save_pretrained(out)
        remove_checkpoint(path)
    return Trained(pipeline, run.step, run.seconds, run.log)


def complete(folder: Path, trained: Trained, recipe: Recipe, source: str) -> None:
    """Write README.md and results.json beside a pipeline; results.json is the last to be there."""
    denoiser = trained.pipeline.denoiser
    card = (
        "---\nlibrary_name: diffusers\npipeline_tag: unconditional-image-generation\n---\n\n"
        f"Draws pictures of {len(trained.pipeline.labels)} classes: a denoiser of "
        f"{denoiser.num_parameters():,} parameters, its patches mixed by {denoiser.config.mixer}, "
        f"trained with hyperagg on {source}.\n\n"
        "```python\nfrom hyperagg.diffusion.pipeline import DenoiserPipeline\n\n"
        'pipeline = DenoiserPipeline.from_pretrained("FOLDER")\n'
        "pipeline([0, 1, 2]).images[0].show()\n```\n"
    )
    results = {
        "data": source,
        "denoiser": config_of(denoiser),
        "parameters": denoiser.num_parameters(),
        "recipe": asdict(recipe),
        "seconds": trained.seconds,
        "loss": trained.loss,
    }
    with atomic_write(folder / "README.md") as draft:
        draft.write_text(card, "utf-8")
    with atomic_write(folder / "results.json") as draft:
        draft.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
