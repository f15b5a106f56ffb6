"""Which derivatives of a call the kernels have: the gradients of one backward pass.

A kernel is opaque to PyTorch. In forward mode it would drop the tangents of its inputs, and the
derivative would be zero; a transform of `torch.func` needs a rule that custom operators lack. The
plain forms have all derivatives, so they take the place of the kernels there.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

__all__ = ["active_transform"]

_GRAD = torch._C._functorch.TransformType.Grad


def active_transform() -> str | None:
    """Return what is differentiating this call in a way that the kernels do not support, or None.

    A transform counts whatever it differentiates: a kernel fails in it for other tensors as well.
    `torch.func.jvp` is forward mode. A compiled function is compiled anew where the answer changes.
    """
    if forward_ad._current_level >= 0:
        return "forward-mode derivatives"
    return "torch.func.grad" if _differentiates_by_func() else None


def _differentiates_by_func() -> bool:
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return any(interpreter.key() == _GRAD for interpreter in stack)


# The compiler calls it while it traces, and guards on the transforms itself. This is what
# `torch.compiler.assume_constant_result` sets, without the import of the compiler.
_differentiates_by_func._dynamo_marked_constant = True  # type: ignore[attr-defined]
