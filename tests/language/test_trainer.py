"""Training in this process; tests/cli/test_lm.py interrupts it and runs it in two processes."""

from __future__ import annotations

import json

import pytest
import torch

from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
from hyperagg.language.packing import pack
from hyperagg.language.trainer import TrainingConfig, find_last_checkpoint, train_model

DATASET = pack([[1 + (i + k) % 7 for k in range(20)] for i in range(60)], 0, 24)


def make(layer_types="gated"):
    torch.manual_seed(0)
    return HyperAggForCausalLM(
        HyperAggConfig(
            vocab_size=8,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            layer_types=layer_types,
        )
    )


@pytest.mark.parametrize("layer_types", ["gated", "decay", ["gated", "full_attention"]], ids=str)
@pytest.mark.parametrize("options", [{}, dict(bf16=True, activation_checkpointing=True)], ids=str)
@pytest.mark.slow
def test_learns_a_pattern(layer_types, options, tmp_path):
    config = TrainingConfig(
        batch_size=8, learning_rate=0.02, max_steps=60, save_steps=None, **options
    )
    result = train_model(make(layer_types), DATASET, tmp_path, config, progress=False)
    # Every token is certain, except for the first of a document and its end.
    assert result.steps == 60 and result.loss[-1][1] < 0.4 < 1.5 < result.loss[0][1]
    assert (tmp_path / "model.safetensors").exists()
    assert not list(tmp_path.glob("*.bin"))


def test_weight_decay_applies_to_linear_maps_only(tmp_path):
    from hyperagg.language.trainer import _Trainer, _training_arguments

    model = make(["decay", "gated"])
    arguments = _training_arguments(tmp_path, TrainingConfig(), 1, 10)
    trainer = _Trainer(model=model, args=arguments)
    decayed = set(trainer.get_decay_parameter_names(model))
    assert "model.layers.1.mixer.recurrence.linear.weight" in decayed
    excluded = ("norm", "log_decay_rate", "bias")
    assert not [name for name in decayed if any(part in name for part in excluded)]
    assert decayed <= {name for name, _ in model.named_parameters()} | {"lm_head.weight"}


def test_an_incomplete_checkpoint_is_skipped(tmp_path):
    for step, content in ((5, json.dumps({"global_step": 5})), (10, '{"global_'), (15, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if content is not None:
            (folder / "trainer_state.json").write_text(content)
    assert find_last_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert find_last_checkpoint(tmp_path / "checkpoint-5") is None


def test_a_batch_that_the_processes_cannot_divide_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch_size=8: expected a multiple of the number of"):
        train_model(make(), DATASET, tmp_path, TrainingConfig())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(learning_rate=-1.0), "learning_rate=-1.0: expected a finite number > 0"),
        (dict(learning_rate=float("nan")), "learning_rate=nan: expected"),
        (dict(batch_size=0), "batch_size=0: expected an integer >= 1"),
        (dict(weight_decay=-0.1), "weight_decay=-0.1: expected a finite number >= 0"),
    ],
)
def test_invalid_configurations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**arguments)
