"""Thin adapters that run a saved text classifier inside data pipelines.

`BatchPredictor` is for Ray Data and Hugging Face datasets, and for any other pipeline that hands
over batches as Arrow tables, data frames or dicts of columns. The modules `ray`, `datatrove`,
`spark`, `nemo_curator` and `dolma` hold what only one pipeline needs, and need its package.
`score_threshold` finds the score that keeps a given fraction of a corpus.
"""

from __future__ import annotations

from hyperagg.integrations.batches import BatchPredictor
from hyperagg.integrations.threshold import score_threshold

__all__ = ["BatchPredictor", "score_threshold"]
