"""Small valid inputs of every kind, which the cases are made of."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

__all__ = ["FOLDER_KINDS", "MEDIA_KINDS", "write_originals"]

FOLDER_KINDS = ("classifier", "tokenizers", "fasttext", "multimodal", "language", "denoiser")
MEDIA_KINDS = ("image", "audio")

TEXTS = ["oil prices rose", "gold fell again", "rain and snow", "a sunny day"] * 6
LABELS = ["money", "money", "weather", "weather"] * 6


def write_originals(folder: Path, kinds: Collection[str]) -> dict[str, list[Path]]:
    """Write the inputs of these kinds and return their paths by kind; models are folders."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for kind, write in _WRITERS.items():
        if kind in kinds:
            write(folder / kind)
            is_model = kind in FOLDER_KINDS
            found[kind] = [folder / kind] if is_model else sorted((folder / kind).iterdir())
    return found


def _classifier(folder: Path) -> None:
    from hyperagg import TextClassifier

    TextClassifier(d_model=8, epochs=20).fit(TEXTS, LABELS, seed=0).save_pretrained(folder)


def _tokenizers(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    from hyperagg import TextClassifier

    backend = Tokenizer(models.BPE(unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=["[UNK]"]))
    classifier = TextClassifier(d_model=8, epochs=20, tokenizer=backend)
    classifier.fit(TEXTS, LABELS, seed=0).save_pretrained(folder)


def _fasttext(folder: Path) -> None:
    from hyperagg import TextClassifier
    from tests.classifier.interop.fasttext_files import write_model

    file = write_model(folder.with_suffix(".ftz"), "hs")
    TextClassifier.from_fasttext(file).save_pretrained(folder)


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


def _images(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    image = Image.fromarray(pixels)
    for suffix in ("png", "jpg", "bmp", "gif", "webp", "tif", "avif", "ppm"):
        content = io.BytesIO()
        name = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
        try:
            image.save(content, name)
        except (KeyError, OSError):  # this build of Pillow cannot write the format
            continue
        (folder / f"image.{suffix}").write_bytes(content.getvalue())
    image.save(folder / "animation.gif", save_all=True, append_images=[image.rotate(90)] * 3)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8)
    for suffix in ("png", "tif", "pgm"):
        deep.save(folder / f"gray16.{suffix}")


def _audio(folder: Path) -> None:
    import soundfile

    folder.mkdir()
    samples = np.sin(np.arange(1600) / 5)
    for suffix, rate, channels in (
        *(("wav", 16_000, 1), ("wav", 44_100, 2), ("flac", 8000, 2), ("ogg", 16_000, 1)),
        *(("aiff", 22_050, 1), ("au", 8000, 1), ("mp3", 16_000, 1)),
    ):
        path = folder / f"{suffix}-{rate}.{suffix}"
        soundfile.write(path, np.stack([samples] * channels, 1), rate)
    (folder / "zeros.mp3").write_bytes(bytes(100) + (folder / "mp3-16000.mp3").read_bytes())
    flac = bytearray((folder / "flac-8000.flac").read_bytes())
    flac[21] &= 0xF0  # the number of samples, in 36 bits, is 0 if it is not known
    flac[22:26] = bytes(4)
    (folder / "streamed.flac").write_bytes(flac)


_WRITERS: dict[str, Callable[[Path], None]] = {
    "classifier": _classifier,
    "tokenizers": _tokenizers,
    "fasttext": _fasttext,
    "multimodal": _multimodal,
    "language": _language,
    "denoiser": _denoiser,
    "image": _images,
    "audio": _audio,
}
