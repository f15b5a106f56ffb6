"""Sums of token vectors times position vectors: the one operation of this library.

`aggregate` sums vectors under a mask, `step` does it token by token, `aggregate_tokens` pools rows
of an embedding straight from token ids, `select_implementation` tells which implementation a call gets.
"""

from hyperagg.ops._validation import Normalize
from hyperagg.ops.aggregate import Selection, aggregate, select_implementation
from hyperagg.ops.state import Padding, State
from hyperagg.ops.step import step
from hyperagg.ops.tokens import aggregate_tokens

__all__ = [
    "Selection",
    "Normalize",
    "Padding",
    "State",
    "aggregate",
    "aggregate_tokens",
    "select_implementation",
    "step",
]
