"""Training by the Trainer, in this process; tests/cli/test_lm.py has it killed and in two."""

from __future__ import annotations

import json

import pytest
import torch

from hyperagg.language.configuration_hyperagg import HyperAggConfig
from hyperagg.language.modeling_hyperagg import HyperAggForCausalLM
from hyperagg.language.packing import pack
from hyperagg.language.trainer import Recipe, last_checkpoint, train_model

ROWS = pack([[1 + (i + k) % 7 for k in range(20)] for i in range(60)], 0, 24)


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
def test_a_pattern_is_learned(layer_types, options, tmp_path):
    recipe = Recipe(batch_size=8, learning_rate=0.02, max_steps=60, save_steps=None, **options)
    trained = train_model(make(layer_types), ROWS, tmp_path, recipe, shown=False)
    # What follows is certain but for the first word of a document and its end.
    assert trained.steps == 60 and trained.loss[-1][1] < 0.4 < 1.5 < trained.loss[0][1]
    assert (tmp_path / "model.safetensors").exists()
    assert not list(tmp_path.glob("*.bin"))


def test_only_linear_maps_are_drawn_to_zero(tmp_path):
    from hyperagg.language.trainer import _arguments, _Trainer

    model = make(["decay", "gated"])
    trainer = _Trainer(model=model, args=_arguments(tmp_path, Recipe(), 1, 10))
    decayed = set(trainer.get_decay_parameter_names(model))
    assert "model.layers.1.mixer.relation.linear.weight" in decayed
    assert not [name for name in decayed if "norm" in name or "log_rate" in name or "bias" in name]
    assert decayed <= {name for name, _ in model.named_parameters()} | {"lm_head.weight"}


def test_a_state_that_was_half_written_is_passed_over(tmp_path):
    for step, content in ((5, json.dumps({"global_step": 5})), (10, '{"global_'), (15, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if content is not None:
            (folder / "trainer_state.json").write_text(content)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-5"
    assert last_checkpoint(tmp_path / "checkpoint-5") is None


def test_rows_that_do_not_divide_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch_size=8: does not divide among 3 processes"):
        train_model(make(), ROWS, tmp_path, Recipe())
