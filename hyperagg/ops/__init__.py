"""Sums of token vectors times position vectors: the one operation of this library.

`aggregate` sums vectors under a mask, `step` does it token by token, `aggregate_tokens` pools rows
of an embedding straight from token ids, `explain` tells which implementation a call gets.
"""

from hyperagg.ops.aggregate import Explanation, aggregate, explain
from hyperagg.ops.checks import Normalize
from hyperagg.ops.rows import Padding, State
from hyperagg.ops.step import step
from hyperagg.ops.tokens import aggregate_tokens

__all__ = [
    "Explanation",
    "Normalize",
    "Padding",
    "State",
    "aggregate",
    "aggregate_tokens",
    "explain",
    "step",
]
