"""The mixers that carry a state: `CausalAggregation` in all forms, and `AssociativeAggregation`."""

from __future__ import annotations

import pytest
import torch

from hyperagg.layers import FORMS, AssociativeAggregation, CausalAggregation

D, H, E = 6, 2, 3

# conv_kernel_size, and whether the channels are expanded and read by an output gate.
CAUSAL = {
    f"{form}, {kind}": (form, kernel_size, expanded)
    for form in FORMS
    for kind, kernel_size, expanded in (("plain", 0, False), ("expanded", 3, True))
}
ASSOCIATIVE = {
    "gated delta rule": {},
    "delta rule": dict(decay=False),
    "decay": dict(delta_rule=False),
    "outer product": dict(delta_rule=False, decay=False),
    "negative eigenvalues": dict(negative_eigenvalues=True),
}


def make_mixer(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if name in ASSOCIATIVE:
        options = dict(num_heads=H, head_dim=E, conv_kernel_size=3)
        return AssociativeAggregation(D, **options, **ASSOCIATIVE[name]).double()
    form, kernel_size, expanded = CAUSAL[name]
    mixer = CausalAggregation(
        D,
        form,
        expand=1 + expanded,
        output_gate=expanded,
        conv_kernel_size=kernel_size,
        max_length=32,
    ).double()
    with torch.no_grad():
        for weight in mixer.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return mixer


@pytest.fixture(scope="module", params=[*CAUSAL, *ASSOCIATIVE])
def mixer(request):
    return make_mixer(request.param)


@pytest.fixture(scope="module", params=CAUSAL)
def causal_mixer(request):
    return make_mixer(request.param)


@pytest.fixture(scope="module", params=ASSOCIATIVE)
def associative_mixer(request):
    return make_mixer(request.param)
