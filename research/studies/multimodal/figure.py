"""Test pairs explained by the sum that the study has trained: whole, and with one half damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hyperagg._common.report import markdown_table
from hyperagg.data.datasets.digits import AudioClips, Digits, Images
from hyperagg.multimodal.estimator import MultimodalModel
from hyperagg.multimodal.modalities.audio import AudioFrames
from hyperagg.multimodal.modalities.image import ImagePatches
from research.analysis.modalities import Example, draw_pairs
from research.data.digit_pairs import pair
from research.studies.multimodal.digit_rows import damaged_picture, damaged_sound

__all__ = ["explain_pairs"]


def explain_pairs(
    model: MultimodalModel, written: Digits[Images], spoken: Digits[AudioClips], out: Path
) -> str:
    """Draws explanation.png in `out`; returns a table of what each modality adds.

    The pairs are the first test pair, the same with a noisy picture, with a noisy sound, and with
    the sound of another digit.
    """
    tests = pair(written.test, spoken.test, 0)
    rng = np.random.default_rng(0)
    image, sound = tests.images[0], tests.sounds[0] / np.float32(32768)
    other = int(np.flatnonzero(tests.labels != tests.labels[0])[0])
    rows = {
        "as they are": (image, sound),
        "picture noisy": (damaged_picture(image, rng), sound),
        "sound noisy": (image, damaged_sound(tests.sounds[0], rng)),
        f"a sound of {tests.labels[other]}": (image, tests.sounds[other] / np.float32(32768)),
    }
    assert model.network is not None
    patches, frames = model.network.encoder.modalities  # type: ignore[misc]
    assert isinstance(patches, ImagePatches) and isinstance(frames, AudioFrames)
    examples, table = [], []
    for title, (picture, clip) in rows.items():
        why = model.explain({"picture": picture, "sound": clip})
        share = model.answers.probabilities(why.logits).max()
        examples.append(
            Example(
                f"{title}: {why.label}, {share:.1%}",
                picture,
                clip,
                tests.sample_rate,
                why,
                patches.corners().numpy(),
                patches.patch,
                frames.seconds(len(why.contributions["sound"])).numpy(),
            )
        )
        parts = {name: own[int(why.label)] for name, own in why.by_modality().items()}
        table.append(
            [
                title,
                f"{why.label} ({share:.1%})",
                f"{why.bias[int(why.label)]:+.2f}",
                f"{parts['picture']:+.2f}",
                f"{parts['sound']:+.2f}",
                f"{why.logits[int(why.label)]:+.2f}",
            ]
        )
    draw_pairs(examples, out / "explanation.png")
    return markdown_table(
        [f"a written and spoken {tests.labels[0]}", "answer", "bias", "picture", "sound", "logit"],
        table,
    )
