"""Settings of all tests. Without PyTorch only the tests that do without it are collected."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

HAS_TORCH = find_spec("torch") is not None
ROOT = Path(__file__).parent
NEEDS_TORCH = [
    *(ROOT / "tests" / name for name in ("diffusion", "language", "layers", "multimodal", "ops")),
    *(
        ROOT / "tests" / "classifier" / name
        for name in (
            "baselines/test_attention.py",
            "baselines/test_neural.py",
            "interop/test_torch_module.py",
            "kernels/test_trainer.py",
        )
    ),
    ROOT / "tests" / "test_keras.py",
    ROOT / "research",
]

# Files whose tests train models, start processes or compile much: all of them are marked as slow.
SLOW = [
    ROOT / "research",
    *(
        ROOT / "tests" / name
        for name in (
            "_common/test_torch_trainer.py",
            "_numba/test_cache.py",
            "classifier/baselines",
            "classifier/batch_prediction/test_job.py",
            "classifier/interop/test_fasttext.py",
            "classifier/interop/test_language_identification.py",
            "classifier/interop/test_fasttext_tokenizer.py",
            "classifier/test_compare.py",
            "classifier/test_fork.py",
            "classifier/test_multi_label.py",
            "classifier/test_scripts.py",
            "classifier/tuning",
            "cli",
            "diffusion",
            "docs/test_pages.py",
            "docs/test_site.py",
            "integrations/test_datatrove.py",
            "integrations/test_docs.py",
            "integrations/test_ray.py",
            "integrations/test_spark.py",
            "language",
            "multimodal/test_estimator.py",
            "multimodal/test_serialization.py",
            "layers/test_compile.py",
            "ops/test_aggregate_tokens.py",
            "ops/test_associative.py",
            "ops/test_gpu.py",
            "ops/test_gpu_associative.py",
            "ops/test_registration.py",
            "ops/test_transforms.py",
            "serve",
            "test_docstrings.py",
            "test_keras.py",
            "test_readme.py",
        )
    ),
]

# Keras reads this when it is imported; the back end of these tests is the one that is installed.
os.environ.setdefault("KERAS_BACKEND", "torch")

# The same examples in every run, so that a result depends on nothing but the code. New ones are
# looked for by `pytest --hypothesis-profile=explore`; what it finds becomes an @example.
settings.register_profile("hyperagg", deadline=None, max_examples=40, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("hyperagg")

if HAS_TORCH:
    import torch
    from jaxtyping import install_import_hook

    # Shapes and types are checked at every call, here only: users do not pay for it.
    install_import_hook(
        [
            "hyperagg.layers",
            "hyperagg.classifier.interop.torch_module",
            "hyperagg.multimodal.encoder",
            "hyperagg.multimodal.fusion",
            "hyperagg.multimodal.modalities",
            "hyperagg.diffusion.model",
        ],
        "beartype.beartype",
    )
    # Triton reads this when it is imported, which transformers may do before tests/ops/test_gpu.py.
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"

    @pytest.fixture(autouse=True)
    def seed() -> None:
        torch.manual_seed(0)


def _is_in(path: Path, folders: list[Path]) -> bool:
    return any(path.is_relative_to(each) for each in folders)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if not HAS_TORCH and _is_in(collection_path, NEEDS_TORCH) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _is_in(item.path, NEEDS_TORCH):
            item.add_marker(pytest.mark.torch)
        if _is_in(item.path, SLOW):
            item.add_marker(pytest.mark.slow)
