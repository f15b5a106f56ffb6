"""The associative mixer: its formula, its initial values; and it recalls."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hyperagg.layers import AssociativeAggregation, Layout

D, H, E = 6, 2, 3


@pytest.fixture
def mixer(associative_mixer):
    return associative_mixer


def by_definition(mixer: AssociativeAggregation, u: torch.Tensor) -> torch.Tensor:
    """y for u (N, D), one token and one head at a time."""
    x, w, y = u @ mixer.qkv.weight.T, mixer.convolution.weight, []
    sums = torch.zeros(H, E, E, dtype=u.dtype)
    for t in range(len(u)):
        mixed = F.silu(sum(w[j] * x[t - j] for j in range(min(t + 1, len(w)))))
        heads = []
        for h, (q, k, v) in enumerate(mixed.view(3, H, E).transpose(0, 1)):
            q, k = (e / (e.square().sum() + 1e-6).sqrt() for e in (q, k))
            if mixer.decay is not None:
                step = F.softplus(mixer.decay.linear(u[t])[h] + mixer.decay.step_bias[h])
                sums[h] *= torch.exp(-mixer.decay.log_rate[h].exp() * step)
            if mixer.beta is not None:
                beta = mixer.max_beta * torch.sigmoid(mixer.beta(u[t])[h])
                v = beta * (v - k @ sums[h])
            sums[h] += torch.outer(k, v)
            heads.append(mixer.norm(q @ sums[h] / E**0.5))
        gate = F.silu(mixer.output_gate(u[t]))
        y.append(mixer.out(torch.cat(heads) * gate))
    return torch.stack(y)


@torch.no_grad()
def test_it_equals_its_formula(mixer):
    u = torch.randn(2, 7, D, dtype=torch.float64)
    expected = torch.stack([by_definition(mixer, row) for row in u])
    torch.testing.assert_close(mixer(u)[0], expected)


@pytest.mark.parametrize("num_before", [0, 2])
@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_rollback_restores_the_state_before_the_latest_tokens(mixer, padding, num_before):
    lengths = torch.tensor([4, 2, 5])
    u = torch.randn(3, 5, D, dtype=torch.float64)
    column = torch.arange(5)
    is_token = column >= 5 - lengths[:, None] if padding == "left" else column < lengths[:, None]
    state = mixer(u[:, :num_before])[1] if num_before else None
    tokens = u.masked_fill(~is_token[..., None], torch.nan)
    y, after = mixer(tokens, Layout(lengths, padding), state, return_history=True)
    for row, text in enumerate(u):
        text = torch.cat([text[:num_before], text[is_token[row]]])[None]
        torch.testing.assert_close(y[row, is_token[row]], mixer(text)[0][0, num_before:])
        for removed in range(3):
            back, expected = after.rollback(removed), mixer(text[:, : text.shape[1] - removed])[1]
            torch.testing.assert_close(back.sums.sums[row], expected.sums.sums[0])
            torch.testing.assert_close(back.conv_state[row], expected.conv_state[0])


def test_bfloat16_is_close_to_float32():
    torch.manual_seed(0)
    mixer = AssociativeAggregation(16, num_heads=2, head_dim=8)
    u = torch.randn(2, 40, 16)
    want = mixer(u)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, state = mixer(u)
    assert state.sums.sums.dtype == torch.float32
    torch.testing.assert_close(y.float(), want, rtol=0.1, atol=0.1)
    y, state = mixer.bfloat16()(u.bfloat16())
    assert y.dtype == torch.bfloat16 and state.sums.sums.dtype == torch.float32
    torch.testing.assert_close(y.float(), want, rtol=0.1, atol=0.1)


def test_initial_values():
    torch.manual_seed(0)
    mixer = AssociativeAggregation(64, num_heads=64, head_dim=8)
    weight = mixer.convolution.weight
    assert weight.abs().max() <= 0.5 and abs(weight.std() - 0.5 / 3**0.5) < 0.02
    step = F.softplus(mixer.decay.step_bias)
    assert 0.001 <= step.min() < 0.003 and 0.03 < step.max() <= 0.1001
    rate = mixer.decay.log_rate.exp()
    assert 1 <= rate.min() < 3 and 14 < rate.max() <= 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(d_model=0), "d_model=0: expected an integer >= 1"),
        (dict(num_heads=0), "num_heads=0: expected an integer >= 1"),
        (dict(head_dim=0), "head_dim=0: expected an integer >= 1"),
        (dict(conv_kernel_size=0), "conv_kernel_size=0: expected an integer >= 1"),
        (dict(negative_eigenvalues=True, delta_rule=False), "expected False without the delta"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AssociativeAggregation(**{"d_model": D} | arguments)


@pytest.mark.slow
def test_it_learns_to_recall_what_follows_a_key():
    """Pairs of a key and a value, then one of the keys: the value that followed it is predicted."""
    torch.manual_seed(0)
    keys, values, pairs, d = 16, 16, 8, 32
    embedding = torch.nn.Embedding(keys + values, d)
    mixers = torch.nn.ModuleList(AssociativeAggregation(d, head_dim=32) for _ in range(2))
    head = torch.nn.Linear(d, values)
    parameters = [*embedding.parameters(), *mixers.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, 0.005)

    def batch(rows):
        k = torch.rand(rows, keys).argsort(1)[:, :pairs]
        v = torch.randint(values, (rows, pairs))
        asked = torch.randint(pairs, (rows, 1))
        tokens = torch.stack([k, keys + v], 2).flatten(1)
        return torch.cat([tokens, k.gather(1, asked)], 1), v.gather(1, asked)[:, 0]

    def logits(tokens):
        x = embedding(tokens)
        for mixer in mixers:
            x = x + mixer(F.rms_norm(x, (d,)))[0]
        return head(F.rms_norm(x[:, -1], (d,)))

    for _ in range(400):
        tokens, wanted = batch(64)
        optimizer.zero_grad()
        F.cross_entropy(logits(tokens), wanted).backward()
        optimizer.step()
    with torch.no_grad():
        tokens, wanted = batch(500)
        accuracy = (logits(tokens).argmax(1) == wanted).float().mean()
    # Gates reach 0.22, and a model that only knows which values occurred reaches 1/8.
    assert accuracy > 0.9
