"""The PyTorch module computes the function of the NumPy model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hyperagg
from hyperagg.classifier.interop.torch_module import ClassifierModule
from hyperagg.classifier.model import ClassifierModel
from hyperagg.text import Ragged, occurrence_weights

pytestmark = pytest.mark.torch

V, C, D = 20, 3, 8


def random_model(pooling, blocks=16):
    rng = np.random.default_rng(1)
    shapes = dict(embedding=(V, D), positions=(blocks, D), weight=(C, D), bias=(C,))
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return ClassifierModel(**arrays, pooling=pooling)


def defined_logits(model, rows):
    """The definition, token by token in float64."""
    weights = occurrence_weights(rows, V).astype(np.float64)
    if model.pooling == "mean":
        weights[:] = 1
    out = np.empty((len(rows), C))
    for b, (first, last) in enumerate(zip(rows.cu_seqlens, rows.cu_seqlens[1:])):
        w = weights[first:last]
        context = np.zeros(D)
        for t, token in enumerate(rows.token_ids[first:last]):
            block = min(int(np.log2(t + 1)), len(model.positions) - 1)
            context += w[t] * model.embedding[token].astype(np.float64) * model.positions[block]
        norm = len(w) if model.pooling == "mean" else (w**2).sum() ** 0.5
        out[b] = model.weight.astype(np.float64) @ (context / max(1, norm)) + model.bias
    return out


@pytest.mark.parametrize("pooling", ["harmonic", "mean"])
def test_logits_are_those_of_the_definition(pooling):
    model = random_model(pooling)
    module = ClassifierModule.from_model(model)
    lengths = [0, 1, 40, 0, 300, 7]
    boundaries = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.random.default_rng(2).integers(0, V, boundaries[-1], dtype=np.int32)
    logits = module(torch.from_numpy(ids), torch.from_numpy(boundaries))
    expected = defined_logits(model, Ragged(ids, boundaries))
    np.testing.assert_allclose(logits.detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["harmonic", "mean"])
@pytest.mark.parametrize("max_tokens", [None, 20])
def test_a_trained_classifier_and_its_module_have_equal_logits(pooling, max_tokens):
    train = hyperagg.load_dataset("r8").train
    texts, labels = train.texts[::20], train.labels[::20]
    clf = hyperagg.TextClassifier(d_model=16, epochs=2, pooling=pooling, max_tokens=max_tokens)
    clf.fit(texts, labels)
    texts = [*texts, "", "oil " * 3000]
    rows = clf.tokenizer_.encode(texts)
    if max_tokens is not None:
        rows = rows.truncate(max_tokens)
    module = clf.to_torch()
    logits = module(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens))
    np.testing.assert_allclose(logits.detach(), clf.logits(texts), rtol=1e-4, atol=1e-4)


def test_every_parameter_gets_a_gradient_and_the_model_stays_as_it_is():
    model = random_model("harmonic")
    before = model.embedding.copy()
    module = ClassifierModule.from_model(model)
    module(torch.arange(V), torch.tensor([0, 5, V])).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.to_dense().abs().sum() > 0, name
    with torch.no_grad():
        module.embedding.zero_()
    assert np.array_equal(model.embedding, before)


def test_a_new_module_has_the_shapes_that_were_asked_for():
    module = ClassifierModule(V, C, D, "mean")
    sizes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    assert sizes == {
        "embedding": (V, D),
        "pooling.positions.weight": (16, D),
        "head.weight": (C, D),
        "head.bias": (C,),
    }
