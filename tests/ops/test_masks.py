from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from hyperagg import ops
from hyperagg.ops import Causal, Documents, Full, Prefix, Window, registration

CU_SEQLENS = (0, 3, 3, 10)


@pytest.mark.parametrize(
    "cu_seqlens",
    [
        CU_SEQLENS,
        list(CU_SEQLENS),
        np.array(CU_SEQLENS),
        np.array(CU_SEQLENS, np.uint16),
        torch.tensor(CU_SEQLENS),
        torch.tensor(CU_SEQLENS, dtype=torch.int32),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_documents_hold_an_integer_tensor(cu_seqlens):
    mask = Documents(cu_seqlens)
    assert mask.cu_seqlens.dtype == torch.int64
    assert mask.cu_seqlens.tolist() == list(CU_SEQLENS)
    assert mask.boundaries == CU_SEQLENS
    assert (mask.max_seqlen, mask.num_documents, mask.pooled) == (7, 3, False)
    assert mask == Documents(CU_SEQLENS) and hash(mask) == hash(Documents(CU_SEQLENS))
    x = torch.randn(1, 10, 4)
    assert torch.equal(
        ops.aggregate(x, mask=mask), ops.aggregate(x, mask=Documents(CU_SEQLENS, causal=True))
    )


def test_documents_compare_by_value():
    mask = Documents(CU_SEQLENS)
    assert mask != Documents((0, 10)) and mask != Documents(CU_SEQLENS, causal=False)
    assert mask != Causal() and len({mask, Documents(CU_SEQLENS), Causal()}) == 2
    assert copy.deepcopy(mask) == pickle.loads(pickle.dumps(mask)) == mask
    assert eval(repr(mask)) == mask
    assert repr(Documents(range(100))) == "Documents(cu_seqlens=(0, 1, 2, ..., 99), causal=True)"
    with pytest.raises(AttributeError):
        mask.causal = False


def test_documents_are_validated_and_copied_to_the_host_only_once(monkeypatch):
    # Packed documents used to be a tuple that every layer made a tensor of again.
    mask = Documents(torch.tensor(CU_SEQLENS))
    x = torch.randn(1, 10, 4)

    def fail(*args, **kwargs):
        raise AssertionError("the boundaries were converted again")

    calls = []
    scan = registration.scan
    monkeypatch.setattr(registration, "scan", lambda *args: calls.append(args[6]) or scan(*args))
    monkeypatch.setattr(torch, "tensor", fail)
    monkeypatch.setattr(torch, "from_numpy", fail)
    monkeypatch.setattr(torch.Tensor, "tolist", fail)
    for _ in range(2):
        ops.aggregate(x, mask=mask)
    assert all(starts.data_ptr() == mask.cu_seqlens.data_ptr() for starts in calls)


def test_documents_move_between_devices():
    moved = Documents(CU_SEQLENS).to("meta")
    assert moved.cu_seqlens.device.type == "meta"
    assert moved == Documents(CU_SEQLENS)
    with pytest.raises(ValueError, match=r"mask: on meta; expected cpu, .*mask\.to"):
        ops.aggregate(torch.ones(1, 10, 4), mask=moved)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(0), "size=0: expected an integer >= 1"),
        (lambda: Window(2.5), "size=2.5: expected an integer >= 1"),
        (lambda: Prefix(True), "size=True: expected an integer >= 0"),
        (lambda: Prefix(-1), "size=-1: expected an integer >= 0"),
        (lambda: Documents([0, 5], "x"), "causal='x': expected True or False"),
        (lambda: Documents([0, 5], None), "causal=None: expected True or False"),
        (lambda: Documents([0, 5], 1), "causal=1: expected True or False"),
        (lambda: Documents(()), "cu_seqlens=(): expected at least two"),
        (lambda: Documents((0,)), "cu_seqlens=(0,): expected at least two"),
        (lambda: Documents((1, 2)), "cu_seqlens=(1, 2): expected"),
        (lambda: Documents(torch.tensor([0, 3, 2])), "cu_seqlens=(0, 3, 2): expected"),
        (lambda: Documents([0.0, 3.0]), "cu_seqlens: shape (2,), float64; expected"),
        (lambda: Documents(torch.ones(2)), "cu_seqlens: shape (2,), torch.float32; expected"),
        (lambda: Documents([[0, 3]]), "cu_seqlens: shape (1, 2), int64; expected"),
        (lambda: Documents(torch.tensor(3)), "cu_seqlens: shape (), torch.int64; expected"),
    ],
)
def test_invalid_arguments_are_named(make, message):
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    assert message in str(error.value) and "\n" not in str(error.value)


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, timeout=300
    )


def test_all_public_names_exist():
    assert set(ops.__all__) <= set(dir(ops))
    assert {"Causal", "Full", "Window", "Prefix", "Documents"} <= set(ops.__all__)


def test_masks_work_without_torch():
    done = run(
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from hyperagg.ops import Causal, Documents, Full, Mask, Prefix, Window\n"
        "mask = Documents([0, 3, 5])\n"
        "assert isinstance(mask.cu_seqlens, np.ndarray) and mask.max_seqlen == 3\n"
        "assert mask == Documents(np.array([0, 3, 5])) and repr(mask).startswith('Documents(')\n"
        "assert Full().pooled and Window(3) != Prefix(3)\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["aggregate", "State"])
def test_without_torch_one_line_says_what_to_install(name):
    done = run(f"import sys; sys.modules['torch'] = None; from hyperagg.ops import {name}")
    *_, last = done.stderr.strip().splitlines()
    assert last == f"ImportError: hyperagg.ops.{name} needs PyTorch: pip install 'hyperagg[torch]'"
    assert "another exception" not in done.stderr


def test_numpy_sizes_are_accepted():
    assert Window(np.int64(3)) == Window(3) and type(Window(np.int64(3)).size) is int
    assert hash(Prefix(np.uint8(2))) == hash(Prefix(2))


def test_full_is_pooled_and_the_others_are_not():
    assert Full().pooled and Documents(CU_SEQLENS, causal=False).pooled
    assert not any(mask.pooled for mask in (Causal(), Window(1), Prefix(1)))
