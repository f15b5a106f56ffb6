"""Sums of token vectors times position vectors, as functions on PyTorch tensors.

`aggregate` sums vectors under a mask, `step` does the same one token at a time, `aggregate_tokens`
pools embedding rows directly from token ids, and `select_implementation` says which implementation
a call runs. `associative` and `associative_step` sum outer products of keys and values, which are
read by queries: linear attention and the delta rule. `hyperagg.ops.reference` and
`hyperagg.ops.associative_reference` define what each of them computes.

The masks work without PyTorch, for `hyperagg.keras`; everything else needs the extra `torch`.
"""

from __future__ import annotations

from hyperagg.ops.masks import Causal, Documents, Full, Mask, Prefix, Window

__all__ = [
    "Causal",
    "Documents",
    "Full",
    "Mask",
    "Normalize",
    "Padding",
    "Prefix",
    "Selection",
    "State",
    "Window",
    "aggregate",
    "aggregate_tokens",
    "associative",
    "associative_step",
    "select_implementation",
    "step",
]

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise

    def __getattr__(name: str) -> object:
        if name in __all__:
            raise ImportError(
                f"hyperagg.ops.{name} needs PyTorch: pip install 'hyperagg[torch]'", name="torch"
            )
        raise AttributeError(f"module 'hyperagg.ops' has no attribute {name!r}")
else:
    from hyperagg.ops._validation import Normalize
    from hyperagg.ops.aggregate import aggregate, select_implementation
    from hyperagg.ops.associative import associative, associative_step
    from hyperagg.ops.selection import Selection
    from hyperagg.ops.state import Padding, State
    from hyperagg.ops.step import step
    from hyperagg.ops.tokens import aggregate_tokens
