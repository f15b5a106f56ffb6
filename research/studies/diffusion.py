"""Written digits drawn by a denoiser of aggregation and by one of attention.

Both have the same skeleton, weights within a few tenths of a percent, the same pictures, times and
noise in every step, and the same guidance. The learning rate of each is the one whose digits come
nearest to training digits that are held out, with a worse one on either side. What they draw is
judged by a classifier of real digits.
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
from rich.console import Console
from rich.progress import track
from safetensors.numpy import load_file, save_file

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, spread, write_results
from hyperagg._common.runs import Runs
from hyperagg.data.datasets.digits import Digits, Images
from hyperagg.diffusion.image_grid import image_grid, write_animation, write_image
from hyperagg.diffusion.model import MIXERS, Denoiser
from hyperagg.diffusion.pipeline import DenoiserPipeline, load_pipeline, to_images
from hyperagg.diffusion.trainer import TrainingConfig, train_denoiser, write_metadata
from research.analysis.generated import frechet_distance, nearest_pictures
from research.studies.digit_classifier import trained_digit_classifier
from research.studies.generation_metrics import GenerationMetrics, scaled
from research.studies.learning_rate_search import search_learning_rate

__all__ = ["compare_denoisers", "denoisers_table"]

CLASSES = 10
DENOISING_STEPS = 50
GRID_ROWS = 8
CHUNK = 100  # pictures at a time
HELD_OUT = 12  # the last twelfth of the training digits, 5,000 of mnist's, chooses the rates
FIRST_RATES = (4e-3, 8e-3)
PICTURES = ("samples.png", "nearest.png", "denoising.gif")
MEASURES = ("loss", "frechet", "frechet_train", "class_accuracy", "nearest_ratio")


def compare_denoisers(
    digits: Digits[Images],
    out: Path,
    *,
    mixers: Sequence[str] = MIXERS,
    patch_size: int = 4,
    d_model: int = 64,
    layers: int = 6,
    recipe: TrainingConfig = TrainingConfig(),
    learning_rate: float | None = None,
    guidance: float = 2.0,
    samples: int = 500,
    seeds: int = 1,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train, draw and judge; write results.json, table.md, pictures, and a model for each run.

    Args:
        digits: learned from eleven twelfths of its training pictures; the rates are chosen by the
            others, the table is of the test pictures.
        out: the folder.
        mixers: of `Denoiser`.
        patch_size, d_model, layers: of both.
        recipe: of both, but for its rate; its seed is the first.
        learning_rate: of both, instead of choosing for each.
        guidance: of both; 2 was best on training digits (docs/log.md).
        samples: pictures to draw and judge, as many of each digit.
        seeds: of weights, pictures, times and noise; the rate is chosen with the first, and the
            pictures that are written are the first one's.
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
    fixed = {name: value for name, value in asdict(recipe).items() if name != "learning_rate"}
    what = f"{len(digits.train)} digits, {sizes}, {fixed}, {guidance}, {samples}"
    runs = Runs(out / "runs.json", what, resume)
    if not resume:
        (out / "judge.safetensors").unlink(missing_ok=True)
        shutil.rmtree(out / "models", ignore_errors=True)
    study = _Study(digits, out, sizes, recipe, guidance, samples, runs, resume, progress, say)
    if "real" not in runs.done:
        runs.add("real", study.real())
    say(f"judge: {100 * runs.done['real']['judge_accuracy']:.2f} % of the test digits")
    models = {}
    for mixer in mixers:
        rate = learning_rate or study.best_rate(mixer)
        models[mixer] = study.tested(mixer, rate, seeds)
        say(
            f"{mixer}, rate {rate:g}: Fréchet distance "
            f"{spread(models[mixer]['seeds']['frechet'], 1)} to test digits, "
            f"{spread(models[mixer]['seeds']['class_accuracy'], 100, 1)} % of the wanted digit"
        )
    results = {
        "dataset": "mnist",
        "source": digits.source,
        "sizes": sizes,
        "recipe": fixed,
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
        "rate",
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
            f"{model['learning_rate']:g}",
            spread(model["seeds"]["loss"], 1, 4),
            spread(model["seeds"]["frechet"], 1),
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
            "",
            f"{real['frechet']:.2f}",
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
        sizes: dict[str, int],
        recipe: TrainingConfig,
        guidance: float,
        samples: int,
        runs: Runs,
        resume: bool,
        progress: bool,
        say: Callable[[str], None],
    ) -> None:
        self.source, self.out, self.sizes, self.recipe = digits.source, out, sizes, recipe
        self.guidance, self.samples, self.runs = guidance, samples, runs
        self.resume, self.progress, self.say = resume, progress, say
        kept = len(digits.train) - len(digits.train) // HELD_OUT
        images, labels = digits.train.images, digits.train.labels
        self.learned = Images(images[:kept], labels[:kept])
        held_out = Images(images[kept:], labels[kept:])
        self.judge = trained_digit_classifier(
            self.learned, out / "judge.safetensors", shown=progress
        )
        self.held_out, self.test = (
            GenerationMetrics(self.judge, part) for part in (held_out, digits.test)
        )
        self.pictures = scaled(self.learned.images)
        # As many training digits as there will be samples, and others to compare samples with.
        order = np.random.default_rng(0).permutation(kept)
        self.some = self.pictures[order[:samples]]
        others = self.pictures[order[samples : samples + len(digits.test)]]
        self.others = self.judge.judge(others)[0]
        unseen = self.test.pictures[:samples]
        self.usual = nearest_pictures(_flat(unseen), _flat(self.pictures)).distances

    def real(self) -> dict[str, Any]:
        """How far training digits are from test digits: the least that can be asked for."""
        return {
            "judge_accuracy": float((self.test.answers == self.test.labels).mean()),
            "frechet": frechet_distance(self.judge.judge(self.some)[0], self.test.features),
            "nearest_distance": float(np.median(self.usual)),
        }

    def best_rate(self, mixer: str) -> float:
        """By the Fréchet distance to the digits that are held out."""

        def distance(rate: float) -> float:
            found = self.run(mixer, rate, self.recipe.seed)["held_out"]
            self.say(
                f"  {mixer}, rate {rate:g}: Fréchet distance {found['frechet']:.2f}, "
                f"{100 * found['class_accuracy']:.1f} % of the wanted digit, held out"
            )
            return float(found["frechet"])

        return search_learning_rate(distance, FIRST_RATES)

    def run(self, mixer: str, rate: float, seed: int) -> dict[str, Any]:
        """A training, what it drew, and how near that is to the digits that are held out."""
        key = _key(mixer, rate, seed)
        if key not in self.runs.done:
            recipe = replace(self.recipe, learning_rate=rate, seed=seed)
            trained = self.trained(mixer, recipe, self.folder(key))
            pipeline = load_pipeline(self.folder(key))
            drawn, seconds = self.drawn(pipeline, key)
            run = {
                "parameters": trained["parameters"],
                "seconds": trained["seconds"],
                "seconds_a_sample": seconds,
                "held_out": self.held_out.measured(drawn)
                | {"loss": self.held_out.loss(pipeline.denoiser)},
            }
            self.runs.add(key, run)
        return self.runs.done[key]

    def tested(self, mixer: str, rate: float, seeds: int) -> dict[str, Any]:
        """Runs of all seeds at that rate, beside the test digits."""
        first = self.recipe.seed
        found = [self.beside_test(mixer, rate, seed) for seed in range(first, first + seeds)]
        for picture in PICTURES:
            kind, suffix = picture.split(".")
            kept = self.folder(_key(mixer, rate, first)) / picture
            shutil.copy(kept, self.out / f"{kind}-{mixer}.{suffix}")
        return {
            **{name: found[0][name] for name in ("parameters", "seconds", "seconds_a_sample")},
            "learning_rate": rate,
            "rates_tried": {
                key.split("|")[1]: run["held_out"]
                for key, run in self.runs.done.items()
                if key.startswith(f"{mixer}|") and key.endswith(f"|{first}")
            },
            "accuracy_of_each": found[0]["test"]["accuracy_of_each"],
            "seeds": {measure: [run["test"][measure] for run in found] for measure in MEASURES},
            "nearest_ratio_least": min(run["test"]["nearest_ratio_least"] for run in found),
        }

    def beside_test(self, mixer: str, rate: float, seed: int) -> dict[str, Any]:
        run, key = self.run(mixer, rate, seed), _key(mixer, rate, seed)
        if "test" not in run:
            pipeline = load_pipeline(self.folder(key))
            drawn, _ = self.drawn(pipeline, key)
            nearest = self.nearest(drawn, self.folder(key))
            loss = {"loss": self.test.loss(pipeline.denoiser)}
            run = {**run, "test": self.test.measured(drawn) | nearest | loss}
            self.runs.add(key, run)
        return run

    def trained(self, mixer: str, recipe: TrainingConfig, folder: Path) -> dict[str, Any]:
        """What `write_metadata` wrote of a training."""
        torch.manual_seed(recipe.seed)
        denoiser = Denoiser(**self.sizes, mixer=mixer)
        path = folder / "results.json"
        if not (self.resume and path.exists()):
            trained = train_denoiser(
                denoiser,
                self.learned.images,
                self.learned.labels,
                folder,
                recipe,
                resume=self.resume,
                progress=self.progress,
            )
            write_metadata(folder, trained, recipe, self.source)
        return json.loads(path.read_text("utf-8"))

    def nearest(self, drawn: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
        """Distances to training digits, how drawn ones differ from them, and pictures of both."""
        pictures = scaled(drawn["pictures"])
        nearest = nearest_pictures(_flat(pictures), _flat(self.pictures))
        order = np.argsort(nearest.distances)
        digits = [order[drawn["labels"][order] == i][:2] for i in range(CLASSES)]
        for_each = [
            np.stack([pictures[rows], self.pictures[nearest.rows[rows]]], 1) for rows in digits
        ]
        columns = np.stack([each.reshape(-1, *each.shape[2:]) for each in for_each], 1)
        pairs = columns.reshape(-1, *columns.shape[2:])
        write_image(image_grid(pairs, CLASSES), folder / "nearest.png")
        shown = pictures[: GRID_ROWS * CLASSES]
        write_image(image_grid(shown, CLASSES), folder / "samples.png")
        return {
            "frechet_train": frechet_distance(self.judge.judge(pictures)[0], self.others),
            "nearest_ratio": float(np.median(nearest.distances) / np.median(self.usual)),
            "nearest_ratio_least": float(nearest.distances.min() / self.usual.min()),
        }

    def drawn(self, pipeline: DenoiserPipeline, key: str) -> tuple[dict[str, np.ndarray], float]:
        """Pictures (N, 28, 28) uint8 and labels, digit after digit in turns; seconds of each."""
        parts, console = [], Console(stderr=True)
        chunks = range(-(-self.samples // CHUNK))
        for i in track(chunks, key, console=console, disable=not self.progress):
            path = self.folder(key) / "drawn" / f"{i}.safetensors"
            if not path.exists():
                animation = self.folder(key) / "denoising.gif" if i == 0 else None
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
            callback=lambda step, x: frames.append(to_images(x[: 2 * CLASSES], "np")),
        ).images
        seconds = (time.perf_counter() - began) / len(labels)
        if animation is not None:
            grids = [image_grid(frame, CLASSES) for frame in (*frames[:-1:2], frames[-1])]
            write_animation(grids, animation)
        return {
            "pictures": np.rint(255 * images[..., 0]).astype(np.uint8),
            "labels": labels,
            "seconds": np.array([seconds]),
        }

    def folder(self, key: str) -> Path:
        return self.out / "models" / key.replace("|", "-")


def _key(mixer: str, rate: float, seed: int) -> str:
    return f"{mixer}|{rate:g}|{seed}"


def _flat(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), -1)
