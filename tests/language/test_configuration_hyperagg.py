from __future__ import annotations

import pytest

from hyperagg.language import HyperAggConfig, HyperAggForCausalLM, HyperAggModel


def make(**options):
    return HyperAggConfig(**dict(vocab_size=10, hidden_size=8, num_hidden_layers=2) | options)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer_types", ["gated", "gates"], "layer_types='gates': expected one of"),
        ("layer_types", ["gated"], "1 names for num_hidden_layers=2"),
        ("layer_types", "gated", "layer_types='gated': expected a list with one name per layer"),
        ("num_hidden_layers", 3, "2 names for num_hidden_layers=3"),
        ("hidden_size", 0, "hidden_size=0: expected an integer >= 1"),
    ],
)
def test_an_attribute_that_is_assigned_to_is_checked(name, value, message, tmp_path):
    config, model = make(), HyperAggForCausalLM(make())
    setattr(config, name, value)
    setattr(model.config, name, value)
    for model_class in (HyperAggModel, HyperAggForCausalLM):
        with pytest.raises(ValueError, match=message):
            model_class(config)
    for each in (config, model):
        with pytest.raises(ValueError, match=message):
            each.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob("*.json"))


def test_a_saved_configuration_is_the_same(tmp_path):
    config = make(layer_types=["gated", "full_attention"], conv_kernel_size=2)
    config.save_pretrained(tmp_path)
    assert HyperAggConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
