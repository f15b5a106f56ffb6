"""FSDP frees the memory of parameters between their uses, which the kernels must not prevent."""

from __future__ import annotations

import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

from hyperagg import layers, ops


class PooledTokens(nn.Module):
    """The pooled sum of frozen embeddings of tokens, bound to learned position vectors.

    The gradient of an embedding is sparse, which FSDP does not have.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("embedding", torch.randn(7, 8))
        self.p = nn.Parameter(torch.randn(9, 8))

    def forward(self, x):
        token_ids = torch.arange(x.shape[1]) % 7
        return ops.aggregate_tokens(
            token_ids,
            self.embedding,
            cu_seqlens=torch.tensor([0, 4, x.shape[1]]),
            p=self.p,
        ).clone()


class Bound(nn.Module):
    """The windowed sum of the inputs, bound to learned position vectors."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.randn(9, 8))

    def forward(self, x):
        return ops.aggregate(x, self.p, mask=ops.Window(3)).clone()


MODULES = {
    "learned positions": lambda: layers.Aggregation(8, positions="learned", max_length=9),
    "causal": lambda: layers.CausalAggregation(8, "prefix_sum", max_length=9, conv_kernel_size=3),
    "decay": lambda: layers.CausalAggregation(8, "decay"),
    "complex decay": lambda: layers.CausalAggregation(8, "complex_decay"),
    "associative": lambda: layers.AssociativeAggregation(8, num_heads=2, head_dim=4),
    "window": Bound,
    "tokens": PooledTokens,
}


@pytest.fixture
def one_process():
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")
@pytest.mark.parametrize("name", MODULES)
def test_a_sharded_module_has_the_gradients_of_the_module(one_process, name):
    torch.manual_seed(0)
    module, sharded = MODULES[name](), MODULES[name]()
    sharded.load_state_dict(module.state_dict())
    fully_shard(sharded)
    x = torch.randn(2, 9, 8)
    for each in (module, sharded):
        for _ in range(2):  # the memory is freed after a pass and filled before the next
            result = each(x)
            (result[0] if isinstance(result, tuple) else result).square().sum().backward()
    for (key, own), (_, other) in zip(module.named_parameters(), sharded.named_parameters()):
        torch.testing.assert_close(other.grad.to_local(), own.grad, msg=key)
