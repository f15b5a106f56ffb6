"""Explanations of test pairs by the model of the sum: clean, and with one modality noisy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hyperagg._common.report import markdown_table
from hyperagg.data.datasets.digits import AudioClips, Digits, Images
from hyperagg.multimodal import AudioFrames, Explanation, ImagePatches, MultimodalClassifier
from research.analysis.modalities import ExplainedPair, draw_pairs
from research.data.digit_pairs import pair
from research.studies.multimodal.pairs import noisy_audio, noisy_image

__all__ = ["explain_pairs"]


def explain_pairs(
    model: MultimodalClassifier, written: Digits[Images], spoken: Digits[AudioClips], out: Path
) -> str:
    """Draw explanation.png to `out`, and return a table of the contributions of each modality.

    The rows are the first test pair, the same with a noisy image, with noisy audio, and with the
    audio of another digit.
    """
    tests = pair(written.test, spoken.test, 0)
    rng = np.random.default_rng(0)
    image, audio = tests.images[0], tests.audio[0] / np.float32(32768)
    other = int(np.flatnonzero(tests.labels != tests.labels[0])[0])
    rows = {
        "clean": (image, audio),
        "noisy image": (noisy_image(image, rng), audio),
        "noisy audio": (image, noisy_audio(tests.audio[0], rng)),
        f"audio of a {tests.labels[other]}": (image, tests.audio[other] / np.float32(32768)),
    }
    assert model.network_ is not None
    patches, frames = model.network_.encoder.modalities  # type: ignore[misc]
    assert isinstance(patches, ImagePatches) and isinstance(frames, AudioFrames)
    pairs, table = [], []
    for title, (image, audio) in rows.items():
        explanation = model.explain({"image": image, "audio": audio})
        assert isinstance(explanation, Explanation)
        label = explanation.label
        probability = model.decoder.probabilities(explanation.logits).max()
        pairs.append(
            ExplainedPair(
                f"{title}: {label}, {probability:.1%}",
                image,
                audio,
                tests.sample_rate,
                explanation,
                patches.patch_origins().numpy(),
                patches.patch_size,
                frames.start_times(len(explanation.contributions["audio"])).numpy(),
            )
        )
        c = int(label)
        parts = {name: own[c] for name, own in explanation.by_modality().items()}
        table.append(
            [
                title,
                f"{label} ({probability:.1%})",
                f"{explanation.bias[c]:+z.2f}",
                f"{parts['image']:+z.2f}",
                f"{parts['audio']:+z.2f}",
                f"{explanation.logits[c]:+z.2f}",
            ]
        )
    draw_pairs(pairs, out / "explanation.png")
    return markdown_table(
        [f"a written and spoken {tests.labels[0]}", "label", "bias", "image", "audio", "logit"],
        table,
    )
