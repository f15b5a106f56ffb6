"""Padding in any place, and packed documents: every row has the outputs that it has alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from hyperagg.language import HyperAggCache, HyperAggForSequenceClassification, HyperAggModel
from hyperagg.language.token_layout import make_token_layout

LAYER_TYPES = {
    "gated": "gated",
    "prefix_sum": "prefix_sum",
    "complex_decay": "complex_decay",
    "associative": ["associative", "gated_associative"],
    "hybrid": ["gated", "full_attention"],
    "attention": "full_attention",
}
# Padding on both sides, between tokens, on one side, nowhere and everywhere.
MASK = torch.tensor(
    [
        [0, 0, 1, 1, 1, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0, 1, 0, 1],
        [0, 0, 0, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]
)
close = dict(rtol=0, atol=1e-5)


@pytest.fixture(params=LAYER_TYPES.values(), ids=LAYER_TYPES)
def model(request, make_model):
    return make_model(request.param)


@pytest.fixture
def ids(make_ids):
    return make_ids(MASK.numel()).view(MASK.shape)


def alone(model, ids, mask):
    """The logits of each row without its padding."""
    return [model(row[keep == 1][None]).logits[0] for row, keep in zip(ids, mask)]


@torch.no_grad()
def test_padding_in_any_place_does_not_change_the_logits_of_the_tokens(model, ids):
    logits = model(ids, attention_mask=MASK).logits
    for row, keep, expected in zip(logits, MASK, alone(model, ids, MASK)):
        torch.testing.assert_close(row[keep == 1], expected, **close)


@torch.no_grad()
def test_a_second_turn_continues_behind_padding(model, ids):
    """The padding of the first turn lies between the tokens of both."""
    cache = HyperAggCache(model.config)
    parts = [
        model(ids[:, start:end], attention_mask=MASK[:, :end], past_key_values=cache).logits
        for start, end in ((0, 1), (1, 5), (5, 9))
    ]
    for row, keep, expected in zip(torch.cat(parts, 1), MASK, alone(model, ids, MASK)):
        torch.testing.assert_close(row[keep == 1], expected, **close)


@torch.no_grad()
def test_generation_skips_padding_between_tokens(model, ids):
    options = dict(max_new_tokens=4, do_sample=False)
    ids, mask = ids[1:3], MASK[1:3]
    batch = model.generate(ids, attention_mask=mask, **options)
    for row, text, keep in zip(batch, ids, mask):
        single = model.generate(text[keep == 1][None], **options)
        assert torch.equal(row[-4:], single[0, -4:])


@torch.no_grad()
def test_generation_without_a_cache_continues_behind_padding(model, ids):
    """`generate` counts on from the position of the padding, which is 0."""
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    options = dict(attention_mask=mask, max_new_tokens=4, do_sample=False)
    expected = model.generate(ids, **options)
    assert torch.equal(model.generate(ids, use_cache=False, **options), expected)


def test_padding_has_neither_an_influence_nor_a_gradient(make_model):
    model = make_model("gated", HyperAggModel)
    mask = MASK[:2]
    x = torch.randn(2, 9, 16)
    with torch.no_grad():
        y = model(inputs_embeds=x, attention_mask=mask).last_hidden_state
    x[mask == 0] *= 1e3
    z = model(inputs_embeds=x.requires_grad_(), attention_mask=mask).last_hidden_state
    torch.testing.assert_close(z[mask == 1], y[mask == 1])
    z[mask == 1].square().sum().backward()
    assert x.grad[mask == 1].abs().sum(-1).min() > 0
    assert not x.grad[mask == 0].any()


@torch.no_grad()
def test_a_class_is_that_of_the_text_without_padding(make_model, ids):
    model = make_model("gated", HyperAggForSequenceClassification, num_labels=3)
    logits = model(ids, attention_mask=MASK).logits
    for row, text, keep in zip(logits, ids, MASK):
        torch.testing.assert_close(row, model(text[keep == 1][None]).logits[0], **close)


# Two rows of three documents each, the last of which ends in padding.
POSITIONS = torch.tensor([[0, 1, 2, 0, 1, 0, 0, 0, 0], [0, 1, 0, 1, 2, 3, 0, 1, 0]])
DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, 3, 3, 3], [0, 0, 1, 1, 1, 1, 2, 2, 3]])
TOKENS = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0]])


@torch.no_grad()
@pytest.mark.parametrize("mask", ["none", "ones", "zeros"])
def test_documents_do_not_mix_whatever_the_mask(model, ids, mask):
    ids = ids[:2]
    given = {"none": None, "ones": torch.ones_like(TOKENS), "zeros": TOKENS}[mask]
    logits = model(ids, attention_mask=given, position_ids=POSITIONS).logits
    for row, text, documents in zip(logits, ids, DOCUMENTS):
        for document in range(3):
            expected = model(text[documents == document][None]).logits[0]
            torch.testing.assert_close(row[documents == document], expected, **close)


@torch.no_grad()
def test_documents_with_padding_between_their_tokens_do_not_mix(model, ids):
    mask = torch.tensor([[0, 1, 0, 1, 1, 0, 1, 1, 1]])
    positions = torch.tensor([[0, 0, 0, 1, 0, 0, 1, 2, 3]])
    logits = model(ids[:1], attention_mask=mask, position_ids=positions).logits[0]
    for columns in ([1, 3], [4, 6, 7, 8]):
        expected = model(ids[:1, columns]).logits[0]
        torch.testing.assert_close(logits[columns], expected, **close)


@torch.no_grad()
def test_documents_may_be_given_by_their_numbers_or_cumulative_lengths(model, ids):
    ids = ids[:2]
    expected = model(ids, position_ids=POSITIONS).logits
    numbers = torch.cat([DOCUMENTS[:, :6], DOCUMENTS[:, 6:] + torch.tensor([[0, 1, 2]] * 2)], 1)
    begins = torch.cat([torch.tensor([True]), (POSITIONS == 0).flatten()[1:]]).nonzero().flatten()
    cu_seqlens = torch.cat([begins, torch.tensor([18])]).to(torch.int32)
    for given in (
        dict(seq_idx=numbers),
        dict(cu_seq_lens_q=cu_seqlens, cu_seq_lens_k=cu_seqlens),
        dict(cu_seq_lens_k=cu_seqlens),
    ):
        if "seq_idx" in given:
            given["seq_idx"][1, 6:] = torch.tensor([2, 2, 3])
        torch.testing.assert_close(model(ids, **given).logits, expected, **close)


def test_documents_are_refused_where_they_cannot_be_honoured(make_model, ids):
    model = make_model("gated", HyperAggModel)
    ids = ids[:2]
    with pytest.raises(ValueError, match="a row holds several documents; expected one document"):
        model(ids, position_ids=POSITIONS, past_key_values=HyperAggCache(model.config))
    cache = model(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="a row holds several documents"):
        model(ids, position_ids=POSITIONS, past_key_values=cache)
    for positions in (torch.tensor([[9], [0]]), torch.tensor([[0]])):
        with pytest.raises(ValueError, match="position_ids: 0 after 9 cached tokens"):
            model(ids[:, :1], position_ids=positions, past_key_values=cache)
    classifier = make_model("gated", HyperAggForSequenceClassification)
    with pytest.raises(ValueError, match="a row holds several documents"):
        classifier(ids, position_ids=POSITIONS)
    assert model(ids, position_ids=POSITIONS, use_cache=True).past_key_values is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(attention_mask=torch.ones(2, 5)),
            r"attention_mask: shape \(2, 5\); expected \(2, 9\)",
        ),
        (
            dict(attention_mask=torch.ones(1, 9)),
            r"attention_mask: shape \(1, 9\); expected \(2, 9\)",
        ),
        (dict(attention_mask=torch.ones(2, 1, 9, 9)), "attention_mask: shape"),
        (dict(position_ids=torch.arange(5)[None]), r"position_ids: shape \(1, 5\); expected"),
        (dict(position_ids=torch.arange(9) * 2 + torch.zeros(2, 1).long()), "increase by 1, or"),
        (dict(seq_idx=torch.zeros(2, 5).long()), "seq_idx: shape"),
        (dict(cu_seq_lens_q=torch.tensor([0, 9])), r"cu_seq_lens_q=\[0, 9\]: expected .* = 18"),
        (dict(cu_seq_lens_q=torch.tensor([0, 9, 4, 18])), "cu_seq_lens_q"),
    ],
)
def test_layouts_that_do_not_fit_the_batch_are_refused(make_model, ids, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model("gated", HyperAggModel)(ids[:2], **arguments)


def test_positions_that_are_not_integers_are_refused(make_model, ids):
    with pytest.raises(TypeError, match=r"position_ids: torch.float32; expected int32 or int64"):
        make_model("gated", HyperAggModel)(ids, position_ids=torch.zeros(1, 9))


def test_nothing_is_gathered_where_padding_is_on_one_side():
    x = torch.zeros(2, 3, 1)
    for mask in ([[1, 1, 1], [1, 1, 1]], [[0, 1, 1], [1, 1, 1]], [[1, 1, 0], [1, 0, 0]]):
        assert make_token_layout(x, torch.tensor(mask)).order is None
    tokens = make_token_layout(x, torch.tensor([[0, 1, 1], [1, 1, 0]]))
    assert tokens.order.tolist() == [[0, 1, 2], [2, 0, 1]]
    assert tokens.layout.lengths.tolist() == [2, 2]
    y = torch.arange(6.0).view(2, 3, 1)
    assert torch.equal(tokens.scatter(tokens.gather(y)), y)


TRACED = """
import torch
from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
from hyperagg.language.cache import StaticHyperAggCache
config = HyperAggConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, conv_kernel_size=3,
    layer_types=["gated_associative", "full_attention"],
)
model = HyperAggForCausalLM(config).eval()
ids = torch.randint(40, (2, 6))
cache = StaticHyperAggCache(config, max_cache_len=8)
with torch.no_grad():
    model(ids[:, :3], past_key_values=cache)
    step = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")
    for i in range(3, 6):
        y = step(ids[:, [i]], position_ids=torch.full((2, 1), i), past_key_values=cache).logits
    torch.testing.assert_close(y, model(ids).logits[:, -1:], rtol=0, atol=1e-5)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
sizes = {0: torch.export.Dim("B", min=2, max=64), 1: torch.export.Dim("N", min=2, max=512)}
for name, example, values in (
    ("attention_mask", [[0, 1, 1], [1, 1, 1]], [[0, 1, 0, 1], [1, 1, 0, 0], [1, 1, 1, 1]]),
    ("position_ids", [[0, 1, 2], [0, 1, 0]], [[0, 1, 0, 1], [0, 0, 0, 1], [0, 1, 2, 3]]),
):
    example = {"input_ids": torch.randint(40, (2, 3)), name: torch.tensor(example)}
    shapes = {"input_ids": sizes, name: sizes, "use_cache": None}
    with torch.no_grad():
        exported = torch.export.export(
            model, (), kwargs=example | {"use_cache": False}, dynamic_shapes=shapes
        ).module()
        given = {"input_ids": torch.randint(40, (3, 4)), name: torch.tensor(values)}
        y, expected = (each(**given, use_cache=False).logits for each in (exported, model))
    is_token = torch.tensor(values) == 1 if name == "attention_mask" else slice(None)
    torch.testing.assert_close(y[is_token], expected[is_token], rtol=0, atol=1e-5)
"""


def test_one_graph_takes_any_mask_any_documents_and_any_step_of_decoding():
    """In a process of its own: the checks of shapes in these tests cannot be traced."""
    ran = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True)
    # One compiled graph for all steps of decoding.
    assert (ran.returncode, ran.stdout.strip()) == (0, "1"), ran.stderr[-2000:]
