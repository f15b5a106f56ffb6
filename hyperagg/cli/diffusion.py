"""hyperagg diffusion: train models that draw pictures, and draw with them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperagg.cli.options import Resume, output_folder, say

app = typer.Typer(no_args_is_help=True, help="Diffusion models: train, and draw pictures.")


@app.callback()
def group() -> None:
    """Diffusion models are a group of commands."""


@app.command(epilog="Example: hyperagg diffusion train mnist --out digits")
def train(
    data: Annotated[
        str,
        typer.Argument(metavar="mnist|FOLDER", help="mnist, or a folder with a folder a class."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")] = Path("diffusion"),
    mixer: Annotated[str, typer.Option(help="aggregation or attention.")] = "aggregation",
    patch_size: Annotated[int, typer.Option(min=1, help="Pixels of a patch's side.")] = 4,
    d_model: Annotated[int, typer.Option(min=2, help="Dimension of the vectors.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="How many blocks.")] = 6,
    heads: Annotated[int, typer.Option(min=1, help="Of attention.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Of the optimizer.")] = 3000,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 8e-3,
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    save_steps: Annotated[int, typer.Option(min=1, help="How often to write a state.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, pictures and noise.")] = 0,
    resume: Resume = False,
) -> None:
    """Train a model that draws pictures of given classes."""
    import torch

    quiet()
    from hyperagg.diffusion.model import Denoiser
    from hyperagg.diffusion.trainer import Recipe, checkpoint_of, complete, train_denoiser

    images, labels, names, source = _data(data)
    torch.manual_seed(seed)
    denoiser = Denoiser(
        sample_size=images.shape[1],
        in_channels=images.shape[3] if images.ndim == 4 else 1,
        patch_size=patch_size,
        num_classes=len(names),
        d_model=d_model,
        num_layers=layers,
        mixer=mixer,
        num_heads=heads,
    )
    recipe = Recipe(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        bf16=bf16,
        save_steps=save_steps,
        seed=seed,
    )
    say(f"{source}: {len(images):,} pictures, {len(names)} classes")
    say(f"{denoiser.num_parameters():,} parameters")
    with output_folder(out):
        if resume and not checkpoint_of(out).exists():
            say(f"no interrupted training in {out}: starting from the beginning")
        try:
            trained = train_denoiser(
                denoiser,
                images,
                labels,
                out,
                recipe,
                names=names,
                resume=resume,
                shown=_watched(),
            )
        except KeyboardInterrupt:
            if checkpoint_of(out).exists():
                say(f"stopped; the state is in {out}, go on with the same command and --resume")
            raise
        complete(out, trained, recipe, source)
        say(f"{trained.steps:,} steps in {trained.seconds:,.0f} s, loss {trained.loss[-1][1]:.4f}")
        say(f"-> {out}; `hyperagg diffusion sample {out}` draws with it")


@app.command(epilog="Example: hyperagg diffusion sample digits --label 3 --gif denoising.gif")
def sample(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `train` wrote.")],
    label: Annotated[
        str | None, typer.Option(help="The class to draw; else all of them in turn.")
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="How many pictures.")] = 16,
    guidance: Annotated[
        float, typer.Option(help="1: as learned; more: more typical of the class, less various.")
    ] = 2.0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Of denoising.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same pictures.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("samples.png"),
    gif: Annotated[
        Path | None, typer.Option(help="And how they came out of the noise, as an animation.")
    ] = None,
) -> None:
    """Draw pictures, into one file as a grid."""
    import math

    import torch

    quiet()
    from hyperagg.diffusion.image_grid import (
        check_path,
        picture_grid,
        write_animation,
        write_picture,
    )
    from hyperagg.diffusion.pipeline import as_images, load_pipeline

    check_path(out)
    if gif is not None:
        check_path(gif, animated=True)
    pipeline = load_pipeline(model)
    classes = list(pipeline.labels)
    if label is not None and label not in pipeline.labels:
        raise ValueError(f"--label {label}: {model} knows {', '.join(classes)}")
    wanted = [label] if label is not None else classes
    numbers = [pipeline.labels[wanted[i % len(wanted)]] for i in range(number)]
    columns = len(classes) if label is None else math.ceil(math.sqrt(number))
    frames = []
    with _bar(steps) as moved:

        def after(step: int, x: torch.Tensor) -> None:
            moved(step + 1)
            if gif is not None and (step % max(1, steps // 25) == 0 or step == steps - 1):
                frames.append(picture_grid(as_images(x, "np"), columns))

        drawn = pipeline(
            numbers,
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            callback=after,
        )
    write_picture(picture_grid(drawn.images, columns), out)
    say(f"{number} pictures in {out}")
    if gif is not None:
        write_animation(frames, gif)
        say(f"how they came to be in {gif}")


def _data(data: str) -> tuple[Any, Any, list[str], str]:
    """Pictures, their classes, the names of those, and where all that is from."""
    from hyperagg.data.datasets.digits import MNIST, load_mnist
    from hyperagg.data.readers.images import read_image_folder

    if data == MNIST and not Path(data).exists():
        digits = load_mnist()
        return digits.train.images, digits.train.labels, [str(i) for i in range(10)], digits.source
    found = read_image_folder(Path(data))
    return found.images, found.labels, found.names, data


def quiet() -> None:
    """Of what diffusers has to say, warnings; and a line where it is absent."""
    import hyperagg.diffusion.pipeline  # noqa: F401

    if not _watched():
        from diffusers.utils import logging

        logging.disable_progress_bar()


def _watched() -> bool:
    return sys.stderr.isatty()


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[int], None]]:
    """What to call with the number of steps that are done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not _watched()) as bar:
        task = bar.add_task("denoising", total=steps)
        yield lambda done: bar.update(task, completed=done)
