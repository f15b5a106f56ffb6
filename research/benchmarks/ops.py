"""Speed of hyperagg.ops, beside a copy of the same bytes and the best alternatives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperagg import ops
from hyperagg._common.report import environment
from hyperagg.ops import Causal, Documents, Full, Window
from hyperagg.ops.cpu import scan as cpu_scan
from research.benchmarks.baselines import CHUNKS, attention, chunked, cumsum, masked_product
from research.benchmarks.interleaved import interleaved, retained_memory

__all__ = ["FULL_SIZE", "QUICK", "Sizes", "bench_ops"]

logger = logging.getLogger(__name__)

Calls = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Sizes:
    """Shapes of the measurements.

    Args:
        batch, n, d: shape of the causal sums and of the other forms.
        longest, attention_longest: largest n of the scaling, at batch 1.
        narrow: d of the scaling.
        document: tokens per packed document.
        vocab_size, bags: number of embeddings, and shape of the token ids, of pooled sums.
    """

    batch: int = 8
    n: int = 4096
    d: int = 256
    longest: int = 1 << 20
    attention_longest: int = 1 << 14
    narrow: int = 64
    document: int = 512
    vocab_size: int = 10_000
    bags: tuple[int, int] = (64, 256)


FULL_SIZE = Sizes()
QUICK = Sizes(2, 256, 16, 1 << 12, 1 << 12, 16, 64, 100, (4, 16))


def bench_ops(sizes: Sizes = FULL_SIZE) -> dict[str, Any]:
    """Measure all forms, and return the results that `write_ops_page` takes.

    Raises:
        ValueError: an implementation or a baseline differs from the reference.
    """
    torch.manual_seed(0)
    logger.info("fresh memory")
    fresh = _fresh(sizes)  # before any memory is retained
    with retained_memory() as retained:
        logger.info("causal sums and baselines")
        causal = _causal(sizes)
        logger.info("forms")
        forms = _forms(sizes)
        logger.info("token ids")
        tokens = _tokens(sizes)
        logger.info("associative sums")
        associative = _associative(sizes)
        logger.info("scaling")
        scaling = _scaling(sizes)
    return {
        "environment": environment(),
        "retained_memory": retained,
        "shape": [sizes.batch, sizes.n, sizes.d],
        "causal": causal,
        "forms": forms,
        "tokens": {"shape": [*sizes.bags, sizes.vocab_size, sizes.d], **tokens},
        "associative": associative,
        "fresh": fresh,
        "scaling": {"d": sizes.narrow, **scaling},
    }


def _inputs(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = torch.randn(sizes.batch, sizes.n, sizes.d)
    p = 1 + 0.1 * torch.randn(sizes.n, sizes.d)
    return x, p, torch.randn_like(x), torch.empty_like(x)


def _gradients(call: Callable[[], Tensor], leaves: tuple[Tensor, ...], grad: Tensor) -> object:
    return torch.autograd.grad(call(), leaves, grad)


def _forward_backward(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor
) -> object:
    return _gradients(partial(function, *inputs), inputs, grad)


def _leaves(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.clone().requires_grad_() for t in tensors)


def _causal(sizes: Sizes) -> dict[str, dict[str, float]]:
    x, p, grad, out = _inputs(sizes)
    ours = partial(ops.aggregate, mask=Causal())
    functions: dict[str, Callable[..., Tensor]] = {"aggregate": ours, "torch.cumsum": cumsum}
    # The fastest chunk size represents the chunked product.
    timed = interleaved({str(c): partial(chunked, x, p, c) for c in CHUNKS}, budget=1)
    best = min(CHUNKS, key=lambda c: timed[str(c)])
    functions[f"chunked triangle ({best})"] = partial(chunked, size=best)
    for name in ("torch.cumsum", f"chunked triangle ({best})"):
        compiled = torch.compile(functions[name], dynamic=False)
        try:
            compiled(x, p)
        except Exception as error:  # the class depends on what is wrong with the C++ compiler
            if "compil" not in str(error).lower():
                raise
            continue
        functions[f"{name}, compiled"] = compiled
    functions["masked product (original form)"] = masked_product
    # The reference would need (B, N, N) weights here; the plain form is tested against it.
    expected = ops.aggregate(x.double(), p.double(), mask=Causal(), impl="plain")
    for name, function in functions.items():
        _check_equal(name, function(x, p), expected)
    heads = sizes.d // 64 or 1
    shape = (sizes.batch, sizes.n, heads, sizes.d // heads)
    qkv = tuple(torch.randn(shape).transpose(1, 2) for _ in range(3))
    attention_name = f"fused attention, {heads} × {sizes.d // heads}"
    forward: Calls = {"copy": partial(out.copy_, x), "aggregate, kernel only": _kernel(x, p, out)}
    forward |= {name: partial(function, x, p) for name, function in functions.items()}
    forward[attention_name] = partial(attention, *qkv)
    both: Calls = {"copy": partial(out.copy_, x)}
    leaves = _leaves(x, p)
    both |= {name: partial(_forward_backward, f, leaves, grad) for name, f in functions.items()}
    both[attention_name] = partial(
        _forward_backward, attention, _leaves(*qkv), torch.randn_like(qkv[0])
    )
    return {"forward": interleaved(forward), "forward and backward": interleaved(both)}


def _kernel(x: Tensor, p: Tensor, out: Tensor) -> Callable[[], None]:
    """The kernel of `aggregate`, without validation and dispatch, into allocated memory."""
    batch, n, d = x.shape
    tokens, positions, sums = (each.view(-1, d).numpy() for each in (x, p, out))
    starts, lengths = np.arange(batch) * n, np.full(batch, n)
    zeros, num_tokens = np.zeros((batch, d), np.float32), np.zeros_like(starts)

    def run() -> None:
        rows = (zeros, num_tokens, starts, lengths)
        cpu_scan.scan(tokens, positions, None, None, *rows, 0.0, sums, zeros.copy())

    return run


def _forms(sizes: Sizes) -> dict[str, dict[str, float]]:
    x, p, _, _ = _inputs(sizes)
    tokens, d = sizes.batch * sizes.n, sizes.d
    boundaries = tuple(range(0, tokens + 1, sizes.document))
    packed = x.view(1, tokens, d)
    angles = torch.polar(torch.rand(d // 2), torch.randn(d // 2))
    cases: dict[str, tuple[Tensor, Tensor | None, dict[str, Any]]] = {
        "pooled": (x, p, dict(mask=Full())),
        "causal": (x, p, dict(mask=Causal())),
        "causal, no positions": (x, None, dict(mask=Causal())),
        "causal, over √n": (x, p, dict(mask=Causal(), normalize="sqrt")),
        "causal, bfloat16": (x.bfloat16(), p, dict(mask=Causal())),
        f"documents of {sizes.document}": (packed, p, dict(mask=Documents(boundaries))),
        "window of 64": (x, p, dict(mask=Window(64))),
        "decay": (x, p, dict(mask=Causal(), decay=torch.rand(d))),
        "complex_decay": (x, p, dict(mask=Causal(), decay=angles)),
        "gated": (x, p, dict(mask=Causal(), gate=torch.rand_like(x))),
    }
    results = {}
    for name, (tokens_in, positions, more) in cases.items():
        mask = more.pop("mask")
        _check_parity(name, tokens_in, positions, mask, more)
        inputs = [tokens_in] if positions is None else [tokens_in, positions]
        extra = list(more)[:1] if more.keys() & {"decay", "gate"} else []
        inputs += [more.pop(key) for key in extra]

        def call(*inputs: Tensor, mask=mask, more=more, extra=extra, has_p=positions is not None):
            named = dict(zip(extra, inputs[1 + has_p :]))
            return ops.aggregate(
                inputs[0], inputs[1] if has_p else None, mask=mask, **more, **named
            )

        leaves = _leaves(*inputs)
        grad, out = torch.randn_like(call(*inputs)), torch.empty_like(tokens_in)
        results[name] = interleaved(
            {
                "copy": partial(out.copy_, tokens_in),
                "forward": partial(call, *inputs),
                "forward and backward": partial(_forward_backward, call, leaves, grad),
            },
            budget=1.5,
        )
    return results


def _tokens(sizes: Sizes) -> dict[str, dict[str, float]]:
    ids = torch.randint(sizes.vocab_size, sizes.bags)
    table = torch.randn(sizes.vocab_size, sizes.d)
    p = 1 + 0.1 * torch.randn(sizes.bags[1], sizes.d)
    grad = torch.randn(sizes.bags[0], sizes.d)
    bags = {
        name: nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="sum", sparse=sparse)
        for name, sparse in {"nn.EmbeddingBag": False, "nn.EmbeddingBag, sparse": True}.items()
    }
    _check_equal("EmbeddingBag", bags["nn.EmbeddingBag"](ids), ops.aggregate_tokens(ids, table))
    _check_equal("positions", (table[ids] * p).sum(1), ops.aggregate_tokens(ids, table, p))
    rows, positions = _leaves(table, p)
    calls: dict[str, tuple[Callable[[], Tensor], tuple[Tensor, ...]]] = {
        name: (partial(bag, ids), (bag.weight,)) for name, bag in bags.items()
    }
    calls["aggregate_tokens"] = (
        partial(ops.aggregate_tokens, ids, rows, positions),
        (rows, positions),
    )
    calls["aggregate_tokens, no positions"] = (partial(ops.aggregate_tokens, ids, rows), (rows,))
    forward: Calls = {name: call for name, (call, _) in calls.items()}
    both: Calls = {
        name: partial(_gradients, call, leaves, grad) for name, (call, leaves) in calls.items()
    }
    return {"forward": interleaved(forward), "forward and backward": interleaved(both)}


def _associative(sizes: Sizes) -> dict[str, Any]:
    """Measure seconds of the kernel and of plain PyTorch, in heads of 32 or less."""
    heads = max(1, sizes.d // 32)
    shape = (sizes.batch, max(1, sizes.n // 4), heads, sizes.d // heads)
    q, k, v = torch.randn(3, *shape)
    k = nn.functional.normalize(k, dim=-1)
    per_head = torch.rand(2, *shape[:3])
    cases: dict[str, dict[str, Tensor]] = {
        "outer product": {},
        "decay per head": dict(decay=per_head[0]),
        "decay per key": dict(decay=torch.rand(shape)),
        "delta rule": dict(beta=per_head[1]),
        "delta rule, decay per head": dict(beta=per_head[1], decay=per_head[0]),
        "delta rule, decay per key": dict(beta=per_head[1], decay=torch.rand(shape)),
    }
    seconds = {}
    for name, more in cases.items():

        def call(*inputs: Tensor, impl: str, names=tuple(more)) -> Tensor:
            named = dict(zip(names, inputs[3:]))
            return ops.associative(*inputs[:3], **named, impl=impl)

        inputs = (q, k, v, *more.values())
        leaves, grad = _leaves(*inputs), torch.randn_like(v)
        expected = call(*(each.double() for each in inputs), impl="plain")
        calls: Calls = {}
        for impl in ("cpu", "plain"):
            function = partial(call, impl=impl)
            _check_equal(f"{name}, {impl}", function(*inputs), expected)
            calls[f"{impl}, forward"] = partial(function, *inputs)
            calls[f"{impl}, forward and backward"] = partial(
                _forward_backward, function, leaves, grad
            )
        seconds[name] = interleaved(calls)
    return {"shape": list(shape), "seconds": seconds}


def _fresh(sizes: Sizes) -> dict[str, float]:
    x, p, _, out = _inputs(sizes)
    return interleaved(
        {
            "copy": partial(out.copy_, x),
            "copy to fresh memory": x.clone,
            "aggregate": lambda: ops.aggregate(x, p, mask=Causal()),
            "torch.cumsum": partial(cumsum, x, p),
        }
    )


def _scaling(sizes: Sizes) -> dict[str, Any]:
    """Measure seconds at each length, batch 1, and the slopes of log time on log n."""
    d = sizes.narrow
    lengths = [n for n in (1 << k for k in range(10, 21, 2)) if n <= sizes.longest]
    a = torch.full((d,), 0.99)
    forms: dict[str, Callable[[int], dict[str, Any]]] = {
        "causal": lambda n: dict(mask=Causal()),
        "window of 64": lambda n: dict(mask=Window(64)),
        "decay": lambda n: dict(mask=Causal(), decay=a),
        "documents of 256": lambda n: dict(mask=Documents(tuple(range(0, n + 1, 256)))),
    }
    seconds: dict[str, dict[int, float]] = {}
    for n in lengths:
        x, p = torch.randn(1, n, d), 1 + 0.1 * torch.randn(n, d)
        out, q = torch.empty_like(x), torch.randn(1, 1, n, d)
        calls: Calls = {
            name: partial(ops.aggregate, x, p, **more(n)) for name, more in forms.items()
        }
        calls |= {"torch.cumsum": partial(cumsum, x, p), "copy": partial(out.copy_, x)}
        if n <= sizes.attention_longest:
            calls["fused attention"] = partial(attention, q, q, q)
        # Not interleaved: a length is compared with other lengths, and attention would evict the
        # data of a short text from the caches.
        for name, call in calls.items():
            seconds.setdefault(name, {}).update({n: interleaved({name: call}, budget=0.5)[name]})
    return {
        "seconds": {name: list(times.items()) for name, times in seconds.items()},
        "slopes": {name: _slope(times) for name, times in seconds.items()},
        "slopes_at_large_n": {
            name: _slope({n: t for n, t in times.items() if n >= lengths[-1] // 64})
            for name, times in seconds.items()
            if max(times) == lengths[-1]
        },
    }


def _slope(seconds: dict[int, float]) -> float:
    x, y = np.log(list(seconds.items())).T
    return float(np.polyfit(x, y, 1)[0])


def _check_parity(name: str, x: Tensor, p: Tensor | None, mask: Any, more: dict[str, Any]) -> None:
    """Compare a few rows and positions with the reference, whose cost is quadratic."""
    short = x[:2, :512]
    if isinstance(mask, Documents):
        mask = Documents([b for b in mask.boundaries or () if b <= 512])
        short = x[:, : int(mask.cu_seqlens[-1])]
    some = {k: v[:2, :512] if k == "gate" else v for k, v in more.items()}
    actual = ops.aggregate(short, p, mask=mask, **some)
    wide = {k: v.double() if k == "gate" else v for k, v in some.items()}
    expected = ops.aggregate(short.double(), p, mask=mask, impl="reference", **wide)
    _check_equal(name, actual, expected, 2e-2 if x.dtype == torch.bfloat16 else 1e-4)


def _check_equal(name: str, actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    actual, expected = actual.detach().double(), expected.detach().double()
    error = float((actual - expected).abs().max() / expected.abs().max())
    if not error <= tolerance:
        raise ValueError(f"{name}: differs from the reference by {error:.1e} of the largest sum")
