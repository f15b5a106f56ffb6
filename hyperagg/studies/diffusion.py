"""Written digits drawn by a denoiser of aggregation and by one of attention.

Both have the same skeleton, weights within a few tenths of a percent, the same pictures, times and
noise in every step, and the same guidance. What they draw is judged by a classifier of real digits.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from safetensors.numpy import load_file, save_file

from hyperagg.analysis.generated import frechet_distance, nearest_pictures
from hyperagg.analysis.picture_grid import picture_grid, write_animation, write_picture
from hyperagg.atomic import atomic_write
from hyperagg.data.digits import Digits, Images
from hyperagg.models.denoiser import MIXERS, Denoiser
from hyperagg.models.denoiser_pipeline import DenoiserPipeline, as_images, load_pipeline
from hyperagg.studies.digit_judge import DigitJudge, trained_judge
from hyperagg.studies.report import environment, markdown_table, spread, write_results
from hyperagg.studies.runs import Runs
from hyperagg.training.denoiser_run import config_of, new_scheduler
from hyperagg.training.diffusion import Recipe, complete, train_denoiser

__all__ = ["compare_denoisers", "denoisers_table"]

CLASSES = 10
DENOISING_STEPS = 50
GRID_ROWS = 8
CHUNK = 100  # pictures at a time
LOSS_ROWS = 2000
MEASURES = ("test_loss", "frechet_test", "frechet_train", "class_accuracy", "nearest_ratio")


def compare_denoisers(
    digits: Digits[Images],
    out: Path,
    *,
    mixers: Sequence[str] = MIXERS,
    patch_size: int = 4,
    d_model: int = 64,
    layers: int = 6,
    recipe: Recipe = Recipe(),
    guidance: float = 2.0,
    samples: int = 500,
    seeds: int = 1,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train, draw and judge; write results.json, table.md, pictures, and a model for each mixer.

    Args:
        digits: learned from its training pictures; the test pictures are looked at once, at the
            end.
        out: the folder.
        mixers: of `Denoiser`.
        patch_size, d_model, layers: of both.
        recipe: of both; its seed is the first.
        guidance: of both; 2 was best on training digits (docs/log.md).
        samples: pictures to draw and judge, as many of each digit.
        seeds: of weights, pictures, times and noise; the pictures that are written are the
            first one's.
        resume: go on where an earlier call was stopped.
        progress: show bars.
        say: told in a line what was measured.

    Returns:
        the contents of results.json.

    Raises:
        ValueError: a mixer that is not known, or what is in `out` comes of other arguments.
    """
    if unknown := [mixer for mixer in mixers if mixer not in MIXERS]:
        raise ValueError(f"there is no mixer {unknown[0]}; there are {', '.join(MIXERS)}")
    if samples % CLASSES:
        raise ValueError(f"samples={samples}: have to be as many of each of {CLASSES} digits")
    sizes = {"patch_size": patch_size, "d_model": d_model, "num_layers": layers}
    what = f"{len(digits.train)} digits, {sizes}, {asdict(recipe)}, {guidance}, {samples}"
    runs = Runs(out / "runs.json", what, resume)
    if not resume:
        (out / "judge.safetensors").unlink(missing_ok=True)
        shutil.rmtree(out / "drawn", ignore_errors=True)
    judge = trained_judge(digits.train, out / "judge.safetensors", shown=progress)
    study = _Study(digits, out, judge, guidance, samples, progress)
    if "real" not in runs.done:
        runs.add("real", study.real())
    say(f"judge: {100 * runs.done['real']['judge_accuracy']:.2f} % of the test digits")
    models = {}
    for mixer in mixers:
        found = []
        for seed in range(recipe.seed, recipe.seed + seeds):
            name = mixer if seed == recipe.seed else f"{mixer}-{seed}"
            trained = study.trained(name, mixer, sizes, replace(recipe, seed=seed), resume)
            if name not in runs.done:
                runs.add(name, study.judged(name))
            found.append(trained | runs.done[name])
            say(
                f"{mixer}, seed {seed}: Fréchet distance {found[-1]['frechet_test']:.2f}, "
                f"{100 * found[-1]['class_accuracy']:.1f} % of the wanted digit"
            )
        models[mixer] = found[0] | {
            "seeds": {measure: [each[measure] for each in found] for measure in MEASURES}
        }
    results = {
        "dataset": "mnist",
        "source": digits.source,
        "sizes": sizes,
        "recipe": asdict(recipe),
        "guidance": guidance,
        "denoising_steps": DENOISING_STEPS,
        "samples": samples,
        "environment": environment(),
        "real": runs.done["real"],
        "seeds": seeds,
        "models": models,
    }
    write_results(out, results)
    with atomic_write(out / "table.md") as draft:
        draft.write_text(denoisers_table(results), "utf-8")
    return results


def denoisers_table(results: dict[str, Any]) -> str:
    """Quality of what was drawn, a line a mixer, beside real digits: mean ± deviation of seeds."""
    columns = [
        "pictures",
        "parameters",
        "loss on test digits",
        "Fréchet distance to test",
        "to training",
        "wanted digit %",
        "to nearest training digit",
        "train, min",
        "sample, s",
    ]
    rows = [
        [
            mixer,
            f"{model['parameters']:,}",
            spread(model["seeds"]["test_loss"], 1, 4),
            spread(model["seeds"]["frechet_test"], 1),
            spread(model["seeds"]["frechet_train"], 1),
            spread(model["seeds"]["class_accuracy"], 100, 1),
            spread(model["seeds"]["nearest_ratio"], 1) + " ×",
            f"{model['seconds'] / 60:.0f}",
            f"{model['seconds_a_sample']:.2f}",
        ]
        for mixer, model in results["models"].items()
    ]
    real = results["real"]
    rows.append(
        [
            "real training digits",
            "",
            "",
            f"{real['frechet_test']:.2f}",
            "",
            f"{100 * real['judge_accuracy']:.1f} (test)",
            "1 × (test)",
            "",
            "",
        ]
    )
    return markdown_table(columns, rows)


class _Study:
    def __init__(
        self,
        digits: Digits[Images],
        out: Path,
        judge: DigitJudge,
        guidance: float,
        samples: int,
        progress: bool,
    ) -> None:
        self.digits, self.out, self.judge, self.guidance = digits, out, judge, guidance
        self.samples, self.progress = samples, progress
        self.train, self.test = (
            part.images / np.float32(255) for part in (digits.train, digits.test)
        )
        self.test_labels = digits.test.labels
        self.test_features, self.test_answers = judge.judge(self.test)
        # As many training digits as there will be samples, and others to compare samples with.
        order = np.random.default_rng(0).permutation(len(self.train))
        self.some = self.train[order[:samples]]
        self.others = judge.judge(self.train[order[samples : samples + len(self.test)]])[0]
        unseen = self.test[: min(samples, len(self.test))]
        self.usual = nearest_pictures(_flat(unseen), _flat(self.train)).distances

    def real(self) -> dict[str, Any]:
        """How far training digits are from test digits: the least that can be asked for."""
        return {
            "judge_accuracy": float((self.test_answers == self.test_labels).mean()),
            "frechet_test": frechet_distance(self.judge.judge(self.some)[0], self.test_features),
            "nearest_distance": float(np.median(self.usual)),
        }

    def trained(
        self, name: str, mixer: str, sizes: dict[str, int], recipe: Recipe, resume: bool
    ) -> dict[str, Any]:
        """What `complete` wrote of a training; one that `diffusion train` left here will do."""
        folder = self.out / name
        torch.manual_seed(recipe.seed)
        denoiser = Denoiser(**sizes, mixer=mixer)
        path = folder / "results.json"
        if not (resume and path.exists()):
            trained = train_denoiser(
                denoiser,
                self.digits.train.images,
                self.digits.train.labels,
                folder,
                recipe,
                resume=resume,
                shown=self.progress,
            )
            complete(folder, trained, recipe, self.digits.source)
        kept = json.loads(path.read_text("utf-8"))
        if (kept["denoiser"], kept["recipe"]) != (config_of(denoiser), asdict(recipe)):
            raise ValueError(f"{folder}: holds a model of other sizes or another recipe")
        return kept

    def judged(self, name: str) -> dict[str, Any]:
        pipeline = load_pipeline(self.out / name)
        drawn, seconds = self.drawn(pipeline, name)
        pictures = drawn["pictures"] / np.float32(255)
        features, answers = self.judge.judge(pictures)
        nearest = nearest_pictures(_flat(pictures), _flat(self.train))
        order = np.argsort(nearest.distances)
        digits = [order[drawn["labels"][order] == i][:2] for i in range(CLASSES)]
        for_each = [
            np.stack([pictures[rows], self.train[nearest.rows[rows]]], 1) for rows in digits
        ]
        columns = np.stack([each.reshape(-1, *each.shape[2:]) for each in for_each], 1)
        pairs = columns.reshape(-1, *columns.shape[2:])
        write_picture(picture_grid(pairs, CLASSES), self.out / f"nearest-{name}.png")
        shown = pictures[: GRID_ROWS * CLASSES]
        write_picture(picture_grid(shown, CLASSES), self.out / f"samples-{name}.png")
        return {
            "test_loss": self.test_loss(pipeline.denoiser),
            "frechet_test": frechet_distance(features, self.test_features),
            "frechet_train": frechet_distance(features, self.others),
            "class_accuracy": float((answers == drawn["labels"]).mean()),
            "accuracy_of_each": [
                float((answers == drawn["labels"])[drawn["labels"] == i].mean())
                for i in range(CLASSES)
            ],
            "nearest_ratio": float(np.median(nearest.distances) / np.median(self.usual)),
            "nearest_ratio_least": float(nearest.distances.min() / self.usual.min()),
            "seconds_a_sample": seconds,
        }

    def drawn(self, pipeline: DenoiserPipeline, name: str) -> tuple[dict[str, np.ndarray], float]:
        """Pictures (N, 28, 28) uint8 and labels, digit after digit in turns; seconds of each."""
        parts, console = [], Console(stderr=True)
        chunks = range(-(-self.samples // CHUNK))
        for i in track(chunks, name, console=console, disable=not self.progress):
            path = self.out / "drawn" / f"{name}-{i}.safetensors"
            if not path.exists():
                animation = self.out / f"denoising-{name}.gif" if i == 0 else None
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as draft:
                    save_file(self.chunk(pipeline, i, animation), draft)
            parts.append(load_file(path))
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return joined, float(np.median(joined.pop("seconds")))

    def chunk(
        self, pipeline: DenoiserPipeline, i: int, animation: Path | None
    ) -> dict[str, np.ndarray]:
        labels = np.arange(i * CHUNK, min((i + 1) * CHUNK, self.samples)) % CLASSES
        frames: list[np.ndarray] = []
        began = time.perf_counter()
        images = pipeline(
            labels.tolist(),
            guidance_scale=self.guidance,
            num_inference_steps=DENOISING_STEPS,
            generator=torch.Generator().manual_seed(i),
            output_type="np",
            callback=lambda step, x: frames.append(as_images(x[: 2 * CLASSES], "np")),
        ).images
        seconds = (time.perf_counter() - began) / len(labels)
        if animation is not None:
            grids = [picture_grid(frame, CLASSES) for frame in (*frames[:-1:2], frames[-1])]
            write_animation(grids, animation)
        return {
            "pictures": np.rint(255 * images[..., 0]).astype(np.uint8),
            "labels": labels,
            "seconds": np.array([seconds]),
        }

    @torch.no_grad()
    def test_loss(self, denoiser: Denoiser) -> float:
        """Of the prediction, over test digits with classes, the same times and noise for all."""
        generator = torch.Generator().manual_seed(0)
        scheduler = new_scheduler()
        rows = min(LOSS_ROWS, len(self.test))
        pictures = 2 * torch.from_numpy(self.test[:rows])[:, None] - 1
        labels = torch.from_numpy(self.test_labels[:rows])
        times = torch.arange(rows) * scheduler.config.num_train_timesteps // rows
        noise = torch.randn(pictures.shape, generator=generator)
        wanted = scheduler.get_velocity(pictures, noise, times)
        noisy = scheduler.add_noise(pictures, noise, times)
        total = 0.0
        for part in torch.arange(rows).split(CHUNK):
            found = denoiser(noisy[part], times[part], labels[part])
            total += float(F.mse_loss(found, wanted[part], reduction="sum"))
        return total / wanted.numel()


def _flat(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), -1)
