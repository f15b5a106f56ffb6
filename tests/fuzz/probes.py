"""Read an input of each kind, answer from it, and return what tells the answers apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

__all__ = ["PROBES", "prepare"]

TEXTS = ["oil rose", "snow again and rain", "", "unknown words"]


def _digest(*values: object) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for value in values:
        digest.update(np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray)
                      else repr(value).encode())  # fmt: skip
    return digest.hexdigest()


def _classifier(path: Path) -> str:
    from hyperagg import TextClassifier, load_predictor

    classifier = TextClassifier.from_pretrained(path)
    predicted, probabilities = classifier.predict(TEXTS), classifier.predict_proba(TEXTS)
    _check_finite(probabilities)
    mapped = load_predictor(path, threads=1)
    assert np.array_equal(mapped.predict_proba(TEXTS), probabilities)
    return _digest(predicted, probabilities)


def _multimodal(path: Path) -> str:
    from hyperagg.multimodal import load_multimodal

    model = load_multimodal(path)
    row = {"text": ["oil fell"], "a": [3.0], "b": ["v"], "image": [np.ones((8, 8), np.uint8)]}
    row = {name: cells for name, cells in row.items() if name in model.columns}
    logits = model.logits(row)
    _check_finite(logits)
    return _digest(model.predict(row), logits)


def _language(path: Path) -> str:
    import torch

    from hyperagg.language.serialization import load_model

    model, tokenizer = load_model(path)
    texts = [tokenizer.eos_token + text for text in TEXTS]
    inputs = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    _check_finite(logits.float().numpy())
    generated = model.generate(  # type: ignore[operator]
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        max_new_tokens=3,
    )
    return _digest(logits.float().numpy(), tokenizer.batch_decode(generated))


def _denoiser(path: Path) -> str:
    import torch

    from hyperagg.diffusion import load_pipeline

    pipeline = load_pipeline(path)
    generator = torch.Generator().manual_seed(0)
    images = pipeline([0], num_inference_steps=2, generator=generator, output_type="np").images
    _check_finite(images)
    return _digest(list(pipeline.labels), images)


def _image(path: Path) -> str:
    from hyperagg.data import read_image

    return _digest(read_image(path))


def _audio(path: Path) -> str:
    from hyperagg.data import read_audio

    return _digest(read_audio(path, 8000))


def _data(path: Path) -> str:
    from hyperagg.data.readers.stream import stream_rows

    format = path.name.split(".")[0]
    batches = list(stream_rows(path, format="jsonl" if format == "array" else format))
    return _digest([text for batch in batches for text in batch.texts])


def _check_finite(values: np.ndarray) -> None:
    assert np.isfinite(values).all(), "an answer is not finite"


PROBES: dict[str, Callable[[Path], str]] = {
    "classifier": _classifier,
    "tokenizers": _classifier,
    "fasttext": _classifier,
    "multimodal": _multimodal,
    "language": _language,
    "denoiser": _denoiser,
    "image": _image,
    "audio": _audio,
    "data": _data,
}


# What takes seconds to import, and makes a process several times slower to fork.
_WITH_TORCH = frozenset({"multimodal", "language", "denoiser"})


def prepare(kinds: Collection[str]) -> None:
    """Set the process up as one that may be forked to read these kinds: a single thread, and quiet
    libraries that are imported."""
    import os

    import hyperagg.cli._runner

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if _WITH_TORCH.isdisjoint(kinds):
        return
    import diffusers
    import torch
    import transformers

    import hyperagg.diffusion
    import hyperagg.language.serialization
    import hyperagg.multimodal  # noqa: F401

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
