"""Speed of denoisers of aggregation and of attention: a training step, and an image."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, times, write_results
from hyperagg.diffusion import Denoiser, DenoiserPipeline
from hyperagg.diffusion.model import MIXERS
from hyperagg.diffusion.pipeline import make_scheduler
from research.benchmarks.interleaved import interleaved, torch_threads

__all__ = ["bench_denoisers", "speed_table"]

logger = logging.getLogger(__name__)

IMAGE_SIZE, STEPS, BATCH_SIZE = 28, 50, 8


def bench_denoisers(
    out: Path,
    *,
    patch_sizes: Sequence[int] = (1, 2, 4),
    d_model: int = 64,
    layers: int = 6,
) -> dict[str, Any]:
    """Measure both mixers by interleaved timing; write results.json and table.md.

    A training step has 8 images of 28 × 28: forward, backward and optimizer. A sample is one image
    after 50 steps with guidance, hence 100 predictions. Both run on one thread, and figures are
    medians of at least seven rounds.

    Returns:
        The contents of results.json.
    """
    measured = []
    with torch_threads(1):
        for patch_size in patch_sizes:
            row = _measure(patch_size, d_model, layers)
            measured.append(row)
            ratio = _ratio(row["training_step"])
            logger.info("%d tokens: attention takes %s per training step", row["tokens"], ratio)
        results = {
            "d_model": d_model,
            "layers": layers,
            "batch_size": BATCH_SIZE,
            "denoising_steps": STEPS,
            "environment": environment(),
            "measured": measured,
        }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(speed_table(results), "utf-8")
    return results


def speed_table(results: Mapping[str, Any]) -> str:
    """Format the seconds, and the ratio of attention to aggregation."""
    columns = ["patches", "tokens"]
    columns += ["training step, s: aggregation", "attention", "×"]
    columns += ["image, s: aggregation", "attention", "×"]
    rows = []
    for row in results["measured"]:
        cells = [f"{row['patch_size']} × {row['patch_size']}", f"{row['tokens']:,}"]
        for what in ("training_step", "sample"):
            cells += [f"{row[what][mixer]:.3f}" for mixer in MIXERS] + [_ratio(row[what])]
        rows.append(cells)
    return markdown_table(columns, rows)


def _measure(patch_size: int, d_model: int, layers: int) -> dict[str, Any]:
    models = {
        mixer: Denoiser(patch_size=patch_size, d_model=d_model, num_layers=layers, mixer=mixer)
        for mixer in MIXERS
    }
    return {
        "patch_size": patch_size,
        "tokens": (IMAGE_SIZE // patch_size) ** 2,
        "training_step": interleaved({name: _step(model) for name, model in models.items()}),
        "sample": interleaved({name: _sample(model) for name, model in models.items()}),
    }


def _ratio(seconds: Mapping[str, float]) -> str:
    return times(seconds["attention"] / seconds["aggregation"])


def _step(model: Denoiser) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, BATCH_SIZE, 1, IMAGE_SIZE, IMAGE_SIZE)
    noisy, target = torch.randn(shape, generator=generator)
    times = torch.randint(1000, (BATCH_SIZE,), generator=generator)
    labels = torch.randint(10, (BATCH_SIZE,), generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)

    def step() -> None:
        F.mse_loss(model(noisy, times, labels), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _sample(model: Denoiser) -> Callable[[], None]:
    pipeline = DenoiserPipeline(model, make_scheduler())
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline([3], num_inference_steps=STEPS, output_type="np") and None
