from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# Shapes and types are checked at every call, here only: users do not pay for it.
install_import_hook(
    ["hyperagg.layers", "hyperagg.layers.positions", "hyperagg.models"], "beartype.beartype"
)

# Read by Triton when it is imported, which transformers may do before tests/ops/test_gpu.py.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# The torch back end is the one that is always installed here; Keras reads this at import.
os.environ.setdefault("KERAS_BACKEND", "torch")

settings.register_profile("hyperagg", deadline=None, max_examples=60)
settings.load_profile("hyperagg")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
