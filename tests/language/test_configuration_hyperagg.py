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
        ("hidden_size", "16", "hidden_size='16': expected an integer >= 1"),
        ("hidden_size", 16.0, "hidden_size=16.0: expected an integer >= 1"),
        ("intermediate_size", None, "intermediate_size=None: expected an integer >= 1"),
        ("conv_kernel_size", -1, "conv_kernel_size=-1: expected an integer >= 0"),
        ("rms_norm_eps", -1, "rms_norm_eps=-1: expected a number > 0"),
        ("num_labels", 0, "num_labels=0: expected an integer >= 1"),
        ("layer_types", [["gated"], "gated"], r"layer_types=\['gated'\]: expected one of"),
        (
            "layer_types",
            ["prefix_sum", "gated"],
            "max_position_embeddings=None: expected an integer >= 1",
        ),
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(layer_types=3), "layer_types=3: expected a list"),
        (dict(hidden_size="16"), "hidden_size='16': expected an integer >= 1"),
        (dict(hidden_size=True), "hidden_size=True: expected an integer >= 1"),
        (dict(vocab_size=None), "vocab_size=None: expected an integer >= 1"),
        (dict(rms_norm_eps=float("nan")), "rms_norm_eps=nan: expected a number > 0"),
        (dict(rms_norm_eps="1e-6"), "rms_norm_eps='1e-6': expected a number > 0"),
        (dict(num_labels=-2), "num_labels=-2: expected an integer >= 1"),
        (dict(num_labels="3"), "num_labels='3': expected an integer >= 1"),
        (dict(output_gate="no"), "output_gate='no': expected True or False"),
        (dict(max_position_embeddings=0), "max_position_embeddings=0: expected an integer >= 1"),
    ],
)
def test_an_argument_of_the_constructor_is_checked(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_attention_heads=8), "num_attention_heads=8: heads of 1 dimensions with"),
        (dict(rope_parameters=3), "rope_parameters=3: expected a dictionary or None"),
        (dict(rope_parameters={"rope_type": "spiral"}), "rope_type='spiral'; expected one of"),
        (dict(rope_parameters={"rope_theta": "a"}), "rope_theta='a'; expected a number > 0"),
        (
            dict(rope_parameters={"rope_type": "dynamic", "factor": 2.0}),
            "max_position_embeddings=None: expected an integer >= 1 with the rotary embedding",
        ),
    ],
)
def test_an_argument_of_attention_is_checked_in_a_model_with_attention(options, message):
    with pytest.raises(ValueError, match=message):
        make(layer_types=["gated", "full_attention"], **options)
