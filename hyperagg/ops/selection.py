"""Which implementation a call runs: the compiled kernels of its device, or another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numba
import torch
from torch import Tensor

from hyperagg.ops._validation import check_choice
from hyperagg.ops.transforms import active_transform

__all__ = ["Selection", "select"]

_IMPLEMENTATIONS = ("auto", "cpu", "gpu", "plain", "reference")
_KERNELS = {"cpu": "cpu", "cuda": "gpu"}
# Not in the functions: the compiler cannot trace the search for a module.
_HAS_TRITON = find_spec("triton") is not None


@dataclass(frozen=True)
class Selection:
    """Name the implementation that a call runs, and why.

    Args:
        implementation: "cpu", "gpu", "plain" or "reference".
        reason: a phrase for people.
    """

    implementation: str
    reason: str


def select(
    name: str,
    x: Tensor,
    impl: str,
    dtypes: Mapping[str, tuple[torch.dtype, ...]],
    obstacle: str | None = None,
) -> Selection:
    """Return what a call with the argument `impl` runs.

    Args:
        name, x: an input, and its name in errors. Its device and its type determine the kernel.
        impl: "auto" or the name of an implementation.
        dtypes: the types that each kernel, "cpu" and "gpu", supports.
        obstacle: why no kernel supports the other arguments of the call; None if all do.

    Raises:
        ValueError: `impl` is unknown, or a kernel that cannot run.
    """
    check_choice("impl", impl, _IMPLEMENTATIONS)
    kernel = _KERNELS.get(x.device.type, "")
    if not kernel:
        obstacle = f"there are no kernels for {x.device.type}"
    elif obstacle is None:
        obstacle = _find_obstacle(kernel, x.dtype, dtypes[kernel])
    if impl in dtypes and impl != kernel:
        raise ValueError(f"impl={impl!r}: {name} is on {x.device}")
    if impl in dtypes and obstacle:
        raise ValueError(f"impl={impl!r}: {obstacle}")
    if impl != "auto":
        return Selection(impl, "requested by name")
    if obstacle:
        return Selection("plain", obstacle)
    return Selection(kernel, f"the {kernel} kernels support {x.dtype}")


def _find_obstacle(
    kernel: str, dtype: torch.dtype, supported: tuple[torch.dtype, ...]
) -> str | None:
    """Return why a kernel cannot run for inputs of this type, or None if it can."""
    if dtype not in supported:
        return f"the {kernel} kernels do not support {dtype}"
    if kernel == "gpu" and not _HAS_TRITON:
        return "Triton is not installed: pip install 'hyperagg[gpu]'"
    if kernel == "cpu" and numba.config.DISABLE_JIT:
        return "the cpu kernels do not run with NUMBA_DISABLE_JIT"
    if transform := active_transform():
        return f"the {kernel} kernels do not support {transform}"
    return None
