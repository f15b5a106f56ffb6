"""Speed of a training step with raw pixels and raw samples as tokens, beside fused attention.

One block of each, of the same width, over all tokens before the sum: forward, backward and the step
of AdamW, by interleaved timing in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hyperagg._common.atomic import atomic_write
from hyperagg._common.report import environment, markdown_table, times, write_results
from hyperagg.multimodal import Block
from research.benchmarks.interleaved import interleaved, retained_memory

__all__ = ["LENGTHS", "bench_multimodal", "speed_table"]

# Tokens, rows per step, and d.
LENGTHS = {
    "784 raw pixels, d 32": (784, 8, 32),
    "784 raw pixels, d 64": (784, 8, 64),
    "4,000 raw samples, d 32": (4000, 2, 32),
    "4,000 raw samples, d 64": (4000, 2, 64),
}
HEAD_DIM = 16  # of attention


class AttentionBlock(nn.Module):
    """x += attention(RMSNorm(x)); x += W_2 GELU(W_1 RMSNorm(x)): 4 D^2 and 8 D^2 weights."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mixer_norm = nn.RMSNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.norm = nn.RMSNorm(d_model)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        batch, n, d = x.shape
        qkv = self.qkv(self.mixer_norm(x)).view(batch, n, 3, self.heads, -1)
        y = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + self.out(y.transpose(1, 2).reshape(batch, n, d))
        return x + self.down(F.gelu(self.up(self.norm(x))))


def bench_multimodal(folder: Path, budget: float = 20.0) -> str:
    """Measure the median seconds of a step; write results.json and speed.md.

    Args:
        folder: output folder.
        budget: seconds to spend on each length; there are at least seven rounds.

    Returns:
        The table as Markdown.
    """
    speed: dict[str, Any] = {}
    for name, (n, batch, d) in LENGTHS.items():
        torch.manual_seed(0)
        values = torch.rand(batch, n, 1)
        labels = torch.randint(10, (batch,))
        nets = {
            "aggregation": _Tokens(n, d, Block(d)),
            "attention": _Tokens(n, d, AttentionBlock(d, d // HEAD_DIM)),
            "sum only": _Tokens(n, d, nn.Identity()),
        }
        calls = {own: _step(net, values, labels) for own, net in nets.items()}
        with retained_memory():
            seconds = interleaved(calls, budget)
        speed[name] = {
            "tokens": n,
            "batch_size": batch,
            "d_model": d,
            "seconds": seconds,
            "parameters": {
                own: sum(p.numel() for p in net.block.parameters()) for own, net in nets.items()
            },
        }
    results = {"environment": environment(), "speed": speed}
    write_results(folder, results)
    with atomic_write(folder / "speed.md") as draft:
        draft.write_text(speed_table(results), "utf-8")
    return speed_table(results)


def speed_table(results: dict[str, Any]) -> str:
    """Format milliseconds, and the ratio of attention to each model."""
    rows = []
    for name, own in results["speed"].items():
        seconds = own["seconds"]
        for model, second in seconds.items():
            rows.append(
                [
                    f"{name}, {own['batch_size']} rows: {model}",
                    f"{1000 * second:.1f}",
                    times(seconds["attention"] / second),
                    f"{own['parameters'][model]:,}",
                ]
            )
    return markdown_table(["training step", "ms", "attention, ×", "parameters of the block"], rows)


class _Tokens(nn.Module):
    """One token per value: e_t = W x_t + b, times p_t before the block, then sum_t y_t p_t."""

    def __init__(self, n: int, d_model: int, block: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Linear(1, d_model)
        self.positions = nn.Parameter(torch.randn(n, d_model))
        self.block = block
        self.head = nn.Linear(d_model, 10)

    def forward(self, values: Float[Tensor, "B N one"]) -> Float[Tensor, "B C"]:
        x = self.block(self.embed(values) * self.positions)
        return self.head((x * self.positions).sum(1) / len(self.positions) ** 0.5)


def _step(net: nn.Module, values: Tensor, labels: Tensor) -> Callable[[], float]:
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(values), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
