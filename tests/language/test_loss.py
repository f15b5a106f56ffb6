"""The loss in evaluation and in training mode, where logits are not stored."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.loss.loss_utils import LOSS_MAPPING

from hyperagg.language import (
    HyperAggForQuestionAnswering,
    HyperAggForSequenceClassification,
    HyperAggForTokenClassification,
)
from hyperagg.language.loss import causal_lm_loss, has_chunked_loss


@pytest.fixture(params=[True, False], ids=["training", "evaluation"])
def model(request, make_model):
    return make_model().train(request.param)


@pytest.fixture
def ids(make_ids):
    return make_ids(18).view(2, 9)


@pytest.mark.parametrize("items", [None, 0, torch.tensor(0)], ids=str)
def test_a_batch_without_targets_has_a_loss_and_gradients_of_zero(model, ids, items):
    labels = torch.full_like(ids, -100)
    loss = model(ids, labels=labels, num_items_in_batch=items).loss
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize("shape", [(0, 9), (2, 1), (2, 0)], ids=str)
@pytest.mark.parametrize("layer_types", ["gated", ["gated", "full_attention"]], ids=str)
def test_a_batch_that_predicts_nothing_has_a_loss_of_zero(make_model, ids, layer_types, shape):
    model = make_model(layer_types).train()
    ids = ids[: shape[0], : shape[1]]
    loss = model(ids, labels=ids).loss
    loss.backward()
    assert loss.item() == 0


def test_shifted_labels_give_the_loss_of_labels(model, ids):
    expected = model(ids, labels=ids).loss
    shifted = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], 1)
    torch.testing.assert_close(model(ids, shift_labels=shifted).loss, expected)
    torch.testing.assert_close(model(ids, labels=shifted, shift_labels=shifted).loss, expected)


def test_the_loss_is_divided_by_the_number_of_targets_of_the_whole_batch(model, ids):
    expected = model(ids, labels=ids).loss * 16 / 40
    for items in (40, torch.tensor(40)):
        torch.testing.assert_close(model(ids, labels=ids, num_items_in_batch=items).loss, expected)


def test_labels_that_do_not_fit_are_refused(model, ids):
    with pytest.raises(ValueError, match=r"labels: shape \(2, 8\); expected \(2, 9\), one label"):
        model(ids, labels=ids[:, 1:])
    with pytest.raises(ValueError, match=r"labels: shape \(1, 9\); expected \(2, 9\)"):
        model(ids, labels=ids[:1])
    with pytest.raises(ValueError, match=r"shift_labels: shape \(2, 8\); expected \(2, 9\)"):
        model(ids, labels=ids, shift_labels=ids[:, 1:])
    for kept in (3, torch.tensor([2, 3])):
        with pytest.raises(ValueError, match=r"logits_to_keep=.*: expected 0 with labels"):
            model(ids, labels=ids, logits_to_keep=kept)


def test_logits_in_training_are_returned_on_request(make_model, ids):
    model = make_model().train()
    plain = model(ids, labels=ids)
    full = model(ids, labels=ids, return_logits=True)
    assert plain.logits is None
    torch.testing.assert_close(full.logits, model(ids).logits)
    torch.testing.assert_close(full.loss, plain.loss)


def test_hooks_of_the_head_and_a_loss_function_of_ones_own_run_in_training(make_model, ids):
    model = make_model().train()
    called = []
    hook = model.lm_head.register_forward_hook(lambda *_: called.append("hook"))
    loss = model(ids, labels=ids).loss
    hook.remove()
    torch.testing.assert_close(model(ids, labels=ids).loss, loss)
    model.loss_function = lambda **kwargs: called.append("loss") or causal_lm_loss(**kwargs)
    torch.testing.assert_close(model(ids, labels=ids).loss, loss)
    assert called == ["hook", "loss"]


def test_a_head_that_is_not_a_plain_linear_map_is_called():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    assert not has_chunked_loss(Doubled(2, 3, bias=False), 1)
    assert not has_chunked_loss(nn.Linear(2, 3), 1)
    wrapped = nn.Linear(2, 3, bias=False)
    assert has_chunked_loss(wrapped, 1) == hasattr(nn, "LinearCrossEntropyOptions")
    wrapped.forward = lambda x: x
    assert not has_chunked_loss(wrapped, 1)


def test_label_smoothing_of_the_trainer_shifts_the_labels(make_model, ids, tmp_path):
    model = make_model()
    arguments = TrainingArguments(
        str(tmp_path), label_smoothing_factor=0.1, use_cpu=True, report_to="none"
    )
    labels = ids.clone()
    labels[0, 3] = -100
    batch = {"input_ids": ids, "labels": labels}
    loss = Trainer(model=model, args=arguments).compute_loss(model, dict(batch))
    kept = labels[:, 1:] != -100
    log_probs = model(ids).logits.log_softmax(-1)[:, :-1][kept]
    nll = -log_probs.gather(1, labels[:, 1:][kept][:, None]).mean()
    torch.testing.assert_close(loss, 0.9 * nll - 0.1 * log_probs.mean())


def test_the_labels_of_a_classifier_are_not_shifted(make_model, ids):
    model = make_model("gated", HyperAggForSequenceClassification, num_labels=3)
    output = model(ids, labels=torch.tensor([0, 2]))
    expected = nn.functional.cross_entropy(output.logits, torch.tensor([0, 2]))
    torch.testing.assert_close(output.loss, expected)


NO_TARGETS = {
    HyperAggForTokenClassification: dict(labels=torch.full((2, 9), -100)),
    HyperAggForSequenceClassification: dict(labels=torch.full((2,), -100)),
    HyperAggForQuestionAnswering: dict(
        start_positions=torch.tensor([9, 12]), end_positions=torch.tensor([[10], [12]])
    ),
}


@pytest.mark.parametrize("model_class", NO_TARGETS, ids=lambda each: each.__name__)
def test_every_head_has_a_loss_and_gradients_of_zero_without_targets(make_model, ids, model_class):
    model = make_model("gated", model_class, num_labels=3).train()
    loss = model(ids, **NO_TARGETS[model_class]).loss
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize(
    ("model_class", "targets"),
    [
        (HyperAggForTokenClassification, dict(labels=torch.tensor([[0, 1, 2] * 3, [-100] * 9]))),
        (HyperAggForSequenceClassification, dict(labels=torch.tensor([2, -100]))),
        (HyperAggForSequenceClassification, dict(labels=torch.tensor([[1.0, 0, 1]] * 2))),
        (
            HyperAggForQuestionAnswering,
            dict(start_positions=torch.tensor([2, 9]), end_positions=torch.tensor([4, 12])),
        ),
    ],
)
def test_the_losses_of_the_other_heads_are_those_of_transformers(
    make_model, ids, model_class, targets
):
    model = make_model("gated", model_class, num_labels=3)
    loss = model(ids, **targets).loss
    model.loss_function = LOSS_MAPPING[model.loss_type]
    torch.testing.assert_close(loss, model(ids, **targets).loss)


def test_labels_of_tokens_that_do_not_fit_are_refused(make_model, ids):
    model = make_model("gated", HyperAggForTokenClassification, num_labels=3)
    with pytest.raises(ValueError, match=r"labels: shape \(9, 2\); expected \(2, 9\), one label"):
        model(ids, labels=torch.zeros(9, 2).long())


@pytest.mark.parametrize(
    ("model_class", "labels"),
    [
        (HyperAggForTokenClassification, torch.tensor([[0, 1, 2] * 3, [1] * 9])),
        (HyperAggForSequenceClassification, torch.tensor([[1.0, 0, 1], [0, 0, 1]])),
    ],
)
def test_accumulated_batches_train_as_one_batch(make_model, ids, tmp_path, model_class, labels):
    trained = []
    for size in (1, 2):
        model = make_model("gated", model_class, num_labels=3, classifier_dropout=0.0)
        arguments = TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=2 // size,
            max_steps=1,
            max_grad_norm=0,
            learning_rate=0.1,
            optim="sgd",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
        )
        rows = [dict(input_ids=row, labels=label) for row, label in zip(ids, labels)]
        Trainer(model=model, args=arguments, train_dataset=rows).train()
        trained.append(model.state_dict())
    for name, weight in trained[0].items():
        torch.testing.assert_close(weight, trained[1][name], msg=name)
