"""Limits the threads of a command: those of the kernels, of PyTorch, of BLAS and of tokenizers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hyperagg._numba.cpus import default_threads, usable_cpus

__all__ = ["limit_process_threads"]

# OpenMP, which PyTorch and the kernels of this package follow as well; the libraries of matrix
# products; and Rayon, which the tokenizers library is parallelized by.
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


@contextmanager
def limit_process_threads(number: int) -> Iterator[None]:
    """Set the number of threads of everything that computes in this process, during the block.

    No more are set than there are usable processors. A library reads its variable when it is
    imported, or at its first use, so this comes before the imports of a command.

    Args:
        number: at least 1.
    """
    number, before = min(number, usable_cpus()), default_threads()
    saved = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, str(number)))
    _set_torch_threads(number)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _set_torch_threads(before)


def _set_torch_threads(number: int) -> None:
    """PyTorch, if it is imported already, has read the variable."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(number)
