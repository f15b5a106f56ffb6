"""Small valid inputs of every kind, which the cases are made of."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

__all__ = ["FOLDER_KINDS", "MEDIA_KINDS", "write_originals"]

FOLDER_KINDS = ("classifier", "tokenizers", "fasttext", "multimodal", "language", "denoiser")
MEDIA_KINDS = ("image", "audio")

TEXTS = ["oil prices rose", "gold fell again", "rain and snow", "a sunny day"] * 6
LABELS = ["money", "money", "weather", "weather"] * 6


def write_originals(folder: Path) -> dict[str, list[Path]]:
    """Write the inputs and return their paths by kind; models are folders."""
    found = {kind: [folder / kind] for kind in FOLDER_KINDS}
    _classifiers(folder)
    _multimodal(folder / "multimodal")
    _language(folder / "language")
    _denoiser(folder / "denoiser")
    found["image"] = _images(folder / "images")
    found["audio"] = _audio(folder / "audio")
    return found


def _classifiers(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    from hyperagg import TextClassifier
    from tests.classifier.interop.fasttext_files import write_model

    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=["[UNK]"]))
    for name, tokenizer in (("classifier", None), ("tokenizers", backend)):
        classifier = TextClassifier(d_model=8, epochs=20, tokenizer=tokenizer)
        classifier.fit(TEXTS, LABELS, seed=0).save_pretrained(folder / name)
    converted = TextClassifier.from_fasttext(write_model(folder / "model.ftz", "hs"))
    converted.save_pretrained(folder / "fasttext")


def _multimodal(folder: Path) -> None:
    from hyperagg.multimodal import MultimodalClassifier

    kinds = {"text": "text", "a": "number", "b": "category", "image": "image", "audio": "audio"}
    table = {
        "text": TEXTS[:4],
        "a": [1.0, 2.0, None, 5.0],
        "b": ["u", "v", "u", "u"],
        "image": [np.full((8, 8), value, np.uint8) for value in (0, 40, 80, 255)],
        "audio": [np.linspace(-1, 1, 900), None, np.zeros(700), np.ones(50)],
    }
    model = MultimodalClassifier(kinds, d_model=4, hidden_dim=4, epochs=2, sample_rate=2000)
    model.fit(table, LABELS[:4]).save_pretrained(folder)


def _language(folder: Path) -> None:
    from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
    from hyperagg.language.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(TEXTS, "words", 40)
    config = HyperAggConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        layer_types=["gated", "full_attention"],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    HyperAggForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _denoiser(folder: Path) -> None:
    import torch

    from hyperagg.diffusion import Denoiser, DenoiserPipeline
    from hyperagg.diffusion.pipeline import make_scheduler

    denoiser = Denoiser(sample_size=8, num_classes=2, d_model=8, num_layers=1)
    with torch.no_grad():
        denoiser.proj_out.weight.normal_()
    DenoiserPipeline(denoiser, make_scheduler(), {"0": "a", "1": "b"}).save_pretrained(folder)


def _images(folder: Path) -> list[Path]:
    from PIL import Image

    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    image, paths = Image.fromarray(pixels), []
    for suffix in ("png", "jpg", "bmp", "gif", "webp", "tif", "avif", "ppm"):
        path = folder / f"image.{suffix}"
        content = io.BytesIO()
        name = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
        try:
            image.save(content, name)
        except (KeyError, OSError):  # this build of Pillow cannot write the format
            continue
        path.write_bytes(content.getvalue())
        paths.append(path)
    animation = folder / "animation.gif"
    image.save(animation, save_all=True, append_images=[image.rotate(90)] * 3)
    return [*paths, animation]


def _audio(folder: Path) -> list[Path]:
    import soundfile

    folder.mkdir()
    samples = np.sin(np.arange(1600) / 5)
    paths = []
    for suffix, rate, channels in (
        *(("wav", 16_000, 1), ("wav", 44_100, 2), ("flac", 8000, 2), ("ogg", 16_000, 1)),
        *(("aiff", 22_050, 1), ("au", 8000, 1), ("mp3", 16_000, 1)),
    ):
        path = folder / f"{suffix}-{rate}.{suffix}"
        soundfile.write(path, np.stack([samples] * channels, 1), rate)
        paths.append(path)
    return paths
