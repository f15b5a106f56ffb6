"""Random numbers of PyTorch from a seed, without the random state of the process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["preserve_random_state", "seeded"]


def seeded(seed: int) -> AbstractContextManager[Any]:
    """Draw the random numbers of this thread on the CPU from a generator of its own.

    They are those that `torch.manual_seed(seed)` leads to. But that sets the state of the whole
    process: what other threads draw meanwhile changes the numbers here, and theirs.

    Args:
        seed: an integer >= 0.

    Raises:
        NotImplementedError: a function is called that draws random numbers and takes no generator,
            such as `torch.native_dropout`.

    >>> with seeded(0):
    ...     weights = torch.nn.Linear(2, 2).weight
    >>> _ = torch.manual_seed(0)
    >>> bool((torch.nn.Linear(2, 2).weight == weights).all())
    True
    """
    return _Seeded(seed)


class _Seeded(TorchDispatchMode):
    """Pass a generator to every function that draws random numbers; PyTorch's modes belong to the
    thread that enters them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = MappingProxyType({}),
    ) -> Any:
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags and _is_on_cpu(args, kwargs):
            target = func
            if not _takes_generator(func):
                target = getattr(func.overloadpacket, "generator", None)
                if target is None or not _takes_generator(target):
                    raise NotImplementedError(f"{func}: cannot be seeded, it takes no generator")
            if kwargs.get("generator") is None:
                kwargs["generator"] = self.generator
            return target(*args, **kwargs)
        return func(*args, **kwargs)


def _takes_generator(func: Any) -> bool:
    return any(argument.name == "generator" for argument in func._schema.arguments)


def _is_on_cpu(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if args and isinstance(args[0], torch.Tensor):
        return args[0].device.type == "cpu"
    return torch.device(kwargs.get("device") or "cpu").type == "cpu"


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Put the random states of Python, NumPy and PyTorch on the CPU back after the block, in which
    another library may set them."""
    states: list[tuple[Callable[[Any], Any], Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    try:
        yield
    finally:
        for restore, state in states:
            restore(state)
