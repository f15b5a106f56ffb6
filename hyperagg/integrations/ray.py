"""Runs predictions on a Ray cluster.

Ray Data takes `BatchPredictor` as it is:

    ray.data.read_parquet("in").map_batches(
        BatchPredictor, fn_constructor_kwargs={"model": "model"}, batch_format="pyarrow",
        batch_size=4096, zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=8))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

try:
    import ray
except ImportError as error:
    raise ImportError("Ray is required: pip install 'hyperagg[ray]'", name="ray") from error

__all__ = ["ordered_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_ITEMS_PER_WORKER = 2  # one that is computed, and the next


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with the result of a function that runs in the actors of a Ray cluster.

    The results come in the order of the items, and at most two items per worker are in flight, so
    that memory is bounded. The cluster is the one that Ray finds; without one it starts on this
    machine, as `ray.init()` does.

    Args:
        function: can be pickled; each actor gets it once. A predictor in it is sent as the path of
            its model, which every node must be able to read.
        items: can be pickled.
        workers: the number of actors, each with one CPU.

    Raises:
        Exception: whatever the function raises.
    """
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    shared = ray.put(function)
    actors = [ray.remote(num_cpus=1)(_Worker).remote(shared) for _ in range(workers)]
    pending: deque[tuple[Item, Any]] = deque()
    try:
        for number, item in enumerate(items):
            if len(pending) == _ITEMS_PER_WORKER * workers:
                yield _finish(pending)
            pending.append((item, actors[number % workers].apply.remote(item)))
        while pending:
            yield _finish(pending)
    finally:
        for actor in actors:
            ray.kill(actor)


def _finish(pending: deque[tuple[Any, Any]]) -> tuple[Any, Any]:
    item, reference = pending.popleft()
    try:
        return item, ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


class _Worker:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def apply(self, item: Any) -> Any:
        return self.function(item)
