"""Runs a function on several processes that form a process group."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def run_on_ranks(function: Callable[..., None], num_ranks: int, folder: Path, *args: Any) -> None:
    """Call `function(*args)`, which a module defines, on each rank. An exception of one is raised.

    The processes meet in `folder`.
    """
    init_method = f"file://{folder / 'process-group'}"
    torch.multiprocessing.spawn(
        _on_rank, (num_ranks, init_method, function, args), nprocs=num_ranks
    )


def _on_rank(
    rank: int, num_ranks: int, init_method: str, function: Callable[..., None], args: tuple
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method, timedelta(minutes=2), rank=rank, world_size=num_ranks
    )
    function(*args)
    dist.destroy_process_group()
