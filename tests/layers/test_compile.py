"""The mixers under torch.compile and torch.export, for sequences of any length."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from hyperagg.layers import AssociativeAggregation, CausalAggregation

D, MAX_LENGTH = 4, 64


@pytest.fixture(autouse=True)
def no_shape_checks(monkeypatch):
    """The checks of conftest.py take symbolic lengths for errors."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


class Continued(torch.nn.Module):
    """Mix two parts of a sequence: from no state, and from the state of the first part."""

    def __init__(self, form):
        super().__init__()
        if form == "associative":
            self.mixer = AssociativeAggregation(D, num_heads=2, head_dim=3)
        else:
            self.mixer = CausalAggregation(D, form, conv_kernel_size=3, max_length=MAX_LENGTH)

    def forward(self, first, second):
        y, state = self.mixer(first)
        z, _ = self.mixer(second, state=state)
        return torch.cat([y, z], 1)


@pytest.mark.parametrize("form", ["prefix_sum", "complex_decay", "gated", "associative"])
def test_compiles_fullgraph_with_any_length(form):
    model = Continued(form)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (3, 17):
        parts = torch.randn(2, n, D), torch.randn(2, n + 2, D)
        torch.testing.assert_close(compiled(*parts), model(*parts))


@pytest.mark.parametrize("form", ["prefix_sum", "gated", "associative"])
def test_exports_with_any_length(form):
    model = Continued(form)
    lengths = {name: torch.export.Dim(name, min=2, max=30) for name in "nm"}
    exported = torch.export.export(
        model,
        (torch.randn(2, 9, D), torch.randn(2, 5, D)),
        dynamic_shapes=({1: lengths["n"]}, {1: lengths["m"]}),
    )
    parts = torch.randn(2, 20, D), torch.randn(2, 3, D)
    torch.testing.assert_close(exported.module()(*parts), model(*parts))


def test_positions_beyond_the_last_are_refused_by_a_compiled_mixer():
    mixer = CausalAggregation(D, "prefix_sum", max_length=4)
    _, state = mixer(torch.randn(1, 4, D))
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    with pytest.raises(ValueError, match="sequence of 5 tokens: expected at most 4"):
        mixer(torch.randn(1, 1, D), state=state)
    with pytest.raises((IndexError, RuntimeError)):
        compiled(torch.randn(1, 1, D), state=state)
