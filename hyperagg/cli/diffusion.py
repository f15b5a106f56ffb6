"""hyperagg diffusion: train a denoiser on labeled images, and generate images with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hyperagg.cli.options import (
    Force,
    Quiet,
    Resume,
    Threads,
    check_replaceable,
    check_training_folder,
    existing,
    keep_checkpoint,
    logger,
    output_folder,
)

app = typer.Typer(
    no_args_is_help=True, help="Train diffusion models and generate images (experimental)."
)


@app.callback()
def group() -> None:
    """Train diffusion models and generate images (experimental)."""


@app.command(epilog="Example: hyperagg diffusion train mnist --out digits")
def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="mnist|FOLDER",
            help="The data set mnist, or a folder with one subfolder of images per class.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model.")] = Path("diffusion"),
    mixer: Annotated[
        str, typer.Option(help="How patches are mixed: aggregation or attention.")
    ] = "aggregation",
    patch_size: Annotated[
        int, typer.Option(min=1, help="Height and width of a patch, in pixels.")
    ] = 4,
    d_model: Annotated[int, typer.Option(min=2, help="Model dimension.")] = 64,
    layers: Annotated[int, typer.Option(min=1, help="Number of blocks.")] = 6,
    heads: Annotated[
        int, typer.Option(min=1, help="Number of attention heads, with --mixer attention.")
    ] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Number of optimizer steps.")] = 3000,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 8e-3,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Compute in bfloat16; parameters stay in float32.")
    ] = False,
    save_steps: Annotated[
        int, typer.Option(min=1, help="Number of steps between two checkpoints.")
    ] = 100,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of initial parameters, images and noise.")
    ] = 0,
    resume: Resume = False,
    force: Force = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train a model that generates images of given classes.

    Ctrl-C writes a checkpoint; the same command with --resume continues from it.
    """
    # The first import names the extra if a package is missing.
    from hyperagg.diffusion import Denoiser, TrainingConfig, train_denoiser  # isort: skip
    from hyperagg._common.torch_random import seeded
    from hyperagg.diffusion.trainer import checkpoint_path, write_metadata

    config = TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        bf16=bf16,
        save_steps=save_steps,
        seed=seed,
    )
    check_training_folder(out, checkpoint_path(out), resume, force, "results.json")
    images, labels, class_names, source = _load_images(data)
    with seeded(seed):
        denoiser = Denoiser(
            sample_size=images.shape[1],
            in_channels=images.shape[3] if images.ndim == 4 else 1,
            patch_size=patch_size,
            num_classes=len(class_names),
            d_model=d_model,
            num_layers=layers,
            mixer=mixer,
            num_heads=heads,
        )
    logger.info(f"{source}: {len(images):,} images, {len(class_names):,} classes")
    logger.info(f"{denoiser.num_parameters():,} parameters")
    checkpoint = checkpoint_path(out)
    with output_folder(out), keep_checkpoint(out, lambda: existing(checkpoint)):
        result = train_denoiser(
            denoiser, images, labels, out, config, class_names=class_names, resume=resume
        )
        write_metadata(out, result, config, source)
    loss = result.loss[-1][1]
    logger.info(f"{result.steps:,} steps in {result.seconds:,.0f} s, loss {loss:.4f}")
    logger.info(f"saved {out}; generate images with `hyperagg diffusion sample {out}`")


@app.command(epilog="Example: hyperagg diffusion sample digits --label 3 --gif denoising.gif")
def sample(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder that `diffusion train` wrote.")
    ],
    label: Annotated[
        str | None, typer.Option(help="Class to generate (default: all classes in alternation).")
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="Number of images.")] = 16,
    guidance: Annotated[
        float,
        typer.Option(
            help="Guidance scale: 1 disables guidance, larger values give more typical and less "
            "varied images."
        ),
    ] = 2.0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Number of denoising steps.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the noise.")] = 0,
    out: Annotated[Path, typer.Option(help="Image file to write.")] = Path("samples.png"),
    gif: Annotated[
        Path | None, typer.Option(help="GIF file for an animation of the denoising steps.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    threads: Threads = None,
) -> None:
    """Generate images and write them to one file, arranged as a grid."""
    import math

    # The first import names the extra if a package is missing.
    from hyperagg.diffusion import load_pipeline  # isort: skip
    import torch

    from hyperagg._common.progress import progress_bar
    from hyperagg.diffusion.image_grid import (
        check_image_path,
        image_grid,
        write_animation,
        write_image,
    )
    from hyperagg.diffusion.pipeline import to_images

    check_image_path(out)
    check_replaceable(out, force)
    if gif is not None:
        check_image_path(gif, animated=True)
        if gif.resolve() == out.resolve():
            raise ValueError(f"--gif {gif}: is the file of --out; expected another file")
        check_replaceable(gif, force)
    pipeline = load_pipeline(model)
    classes = list(pipeline.labels)
    if label is not None and label not in pipeline.labels:
        raise ValueError(f"--label {label}: expected one of {', '.join(classes)}")
    selected = [label] if label is not None else classes
    class_labels = [pipeline.labels[selected[i % len(selected)]] for i in range(number)]
    columns = len(classes) if label is None else math.ceil(math.sqrt(number))
    frames = []
    with progress_bar("denoising") as update:

        def after_step(step: int, x: torch.Tensor) -> None:
            update((step + 1) / steps, f"step {step + 1}/{steps}")
            if gif is not None and (step % max(1, steps // 25) == 0 or step == steps - 1):
                frames.append(image_grid(to_images(x, "np"), columns))

        images = pipeline(
            class_labels,
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            callback=after_step,
        ).images
    write_image(image_grid(images, columns), out)
    logger.info(f"wrote {number} images to {out}")
    if gif is not None:
        write_animation(frames, gif)
        logger.info(f"wrote the denoising steps to {gif}")


def _load_images(data: str) -> tuple[Any, Any, list[str], str]:
    """Images, class numbers, class names, and the name of their source."""
    from hyperagg.data.datasets.digits import MNIST, load_mnist
    from hyperagg.data.readers.images import read_image_folder

    if data == MNIST and not Path(data).exists():
        digits = load_mnist()
        return digits.train.images, digits.train.labels, [str(i) for i in range(10)], digits.source
    folder = read_image_folder(Path(data))
    return folder.images, folder.labels, folder.names, data
