"""The decoding cache: copies, files, and caches of other kinds."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from transformers import DynamicCache, StaticCache

from hyperagg.language import HyperAggCache, HyperAggConfig
from hyperagg.language.cache import StaticHyperAggCache

LAYER_TYPES = [
    ["gated", "gated"],
    ["gated", "full_attention"],
    ["full_attention", "identity"],
    ["associative", "gated_associative"],
]
SUMS = ["gated", "decay", "complex_decay", "prefix_sum", "associative", "gated_associative"]


@pytest.fixture(params=LAYER_TYPES, ids=str)
def model(request, make_model):
    return make_model(request.param)


@pytest.fixture
def ids(make_ids):
    return make_ids(18).view(2, 9)


def pickled(cache):
    return pickle.loads(pickle.dumps(cache))


def saved(cache):
    file = io.BytesIO()
    torch.save(cache, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved])
def test_a_copy_continues_alone(model, ids, copied):
    """With gradients, as after a forward pass without `no_grad`."""
    # The offloading of attention needs a GPU.
    sums_only = "full_attention" not in model.config.layer_types
    cache = HyperAggCache(model.config, offloading=sums_only)
    expected = model(ids, attention_mask=torch.ones_like(ids)).logits[:, 5:]
    model(ids[:, :5], past_key_values=cache)
    copies = [copied(cache) for _ in range(2)]
    model(ids[:, :3], past_key_values=cache)
    for each in copies:
        assert each.get_seq_length() == 5
        y = model(ids[:, 5:], past_key_values=each).logits
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)


def test_a_copy_of_recorded_states_can_be_cropped(model, ids):
    cache = HyperAggCache(model.config)
    cache.activate_past_recording()
    with torch.no_grad():
        model(ids, past_key_values=cache)
        for copied in (copy.deepcopy(cache), pickled(cache)):
            copied.crop(-4)
            y = model(ids[:, 5:], past_key_values=copied).logits
            torch.testing.assert_close(y, model(ids).logits[:, 5:], rtol=0, atol=1e-5)


# Three chunks: rows that agree, rows of which some hold padding, a padding position in every row.
CROPPED_MASK = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 0, 1], [1, 1, 0, 0, 1, 1, 1, 0, 1]])


@pytest.mark.parametrize(
    "layer_types",
    ["gated", "prefix_sum", ["decay", "full_attention"], ["associative", "gated_associative"]],
    ids=str,
)
@pytest.mark.parametrize("num_removed", [1, 2, 4])
@torch.no_grad()
def test_a_crop_removes_padding_with_the_tokens(make_model, ids, layer_types, num_removed):
    model, mask = make_model(layer_types), CROPPED_MASK
    cache = HyperAggCache(model.config)
    cache.activate_past_recording()
    for start, end in ((0, 3), (3, 7), (7, 8)):
        model(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache)
    cache.crop(-num_removed)
    kept = 8 - num_removed
    assert cache.get_seq_length() == kept
    y = model(ids[:, kept:], attention_mask=mask, past_key_values=cache).logits
    for row, text, keep in zip(y, ids, mask.bool()):
        num_tokens = int(keep[kept:].sum())
        expected = model(text[keep][None]).logits[0, -num_tokens:]
        torch.testing.assert_close(row[keep[kept:]], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_crop_to_before_the_recorded_positions_is_refused(make_model, ids):
    model, mask = make_model(), CROPPED_MASK
    cache = HyperAggCache(model.config)
    with pytest.raises(ValueError, match="tokens_to_remove=1: expected an integer <= 0"):
        cache.layers[0].crop(1)
    model(ids[:, :3], past_key_values=cache)
    with pytest.raises(ValueError, match="tokens_to_remove=-1: expected 0 to 0"):
        cache.crop(-1)
    cache.activate_past_recording()
    model(ids[:, 3:8], attention_mask=mask[:, :8], past_key_values=cache)
    with pytest.raises(ValueError, match="tokens_to_remove=-5: expected -4 to 0"):
        cache.crop(-5)


@torch.no_grad()
def test_an_assistant_continues_a_prompt_that_ends_in_padding(model):
    """Its cache is cropped to before the last position of the prompt once tokens are rejected."""
    ids = torch.tensor([[3, 5, 7, 2, 9, 0]])
    options = dict(attention_mask=(ids != 0).long(), max_new_tokens=6, do_sample=False)
    assistant = copy.deepcopy(model)
    assistant.model.norm.weight.neg_()  # proposes what the model finds least probable
    expected = model.generate(ids, **options)
    assert torch.equal(model.generate(ids, assistant_model=assistant, **options), expected)


def test_a_cache_that_is_reset_is_empty(model, ids):
    cache = HyperAggCache(model.config)
    with torch.no_grad():
        model(ids, past_key_values=cache)
        cache.reset()
        assert cache.get_seq_length() == 0
        y = model(ids, past_key_values=cache).logits
        torch.testing.assert_close(y, model(ids).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_early_exit_skips_the_last_layers_and_generates_the_same(model, make_model, ids):
    options = dict(max_new_tokens=6, do_sample=False)
    expected = model.generate(ids[:1], **options)
    ran = []
    hook = model.model.layers[1].register_forward_hook(lambda *_: ran.append(1))
    assert torch.equal(model.generate(ids[:1], assistant_early_exit=1, **options), expected)
    hook.remove()
    calls = []
    hook = model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    model.generate(ids[:1], assistant_early_exit=1, **options)
    hook.remove()
    assert len(ran) < len(calls)


@pytest.mark.parametrize("form", SUMS)
@torch.no_grad()
def test_a_static_cache_generates_the_same(make_model, ids, form):
    model = make_model([form, "full_attention"])
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    options = dict(attention_mask=mask, max_new_tokens=4, do_sample=False, disable_compile=True)
    expected = model.generate(ids, **options)
    assert torch.equal(model.generate(ids, cache_implementation="static", **options), expected)
    with pytest.raises(ValueError, match="cache_implementation='offloaded_static': expected None"):
        model.generate(ids, cache_implementation="offloaded_static", **options)


@torch.no_grad()
def test_a_static_cache_that_is_reset_is_empty(model, ids):
    cache = StaticHyperAggCache(model.config, max_cache_len=12)
    model(ids[:, 4:], past_key_values=cache)
    cache.reset()
    assert cache.get_seq_length() == 0
    y = model(ids, past_key_values=cache).logits
    torch.testing.assert_close(y, model(ids).logits, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_static_cache_of_another_model_is_refused(make_model, ids):
    model = make_model(["gated", "full_attention"])
    attention = HyperAggConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, layer_types="full_attention"
    )
    cache = StaticCache(config=attention, max_cache_len=20)
    with pytest.raises(TypeError, match="layer for 'gated' is a StaticLayer; expected a HyperAgg"):
        model.generate(ids, past_key_values=cache, max_new_tokens=4)


@torch.no_grad()
def test_a_decoding_step_with_mask_and_cache_is_exported(make_model, ids):
    exporters = pytest.importorskip("transformers.exporters.exporter_dynamo")
    model = make_model(["gated", "full_attention"])
    cache = HyperAggCache(model.config)
    model(ids[:, :8], past_key_values=cache)
    inputs = dict(input_ids=ids[:, 8:], attention_mask=torch.ones_like(ids), past_key_values=cache)
    exporter = exporters.DynamoExporter()
    exported = exporter.export(model, copy.deepcopy(inputs), config=exporters.DynamoConfig())
    y = exported.program.module()(**inputs).logits
    torch.testing.assert_close(y, model(ids).logits[:, -1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", [*SUMS, "identity"])
@torch.no_grad()
def test_caches_of_transformers_have_the_layers_of_the_configuration(make_model, ids, form):
    model = make_model([form, "full_attention"])
    options = dict(max_new_tokens=4, do_sample=False, disable_compile=True)
    expected = model.generate(ids, **options)
    for cache in (DynamicCache(config=model.config), StaticCache(model.config, max_cache_len=16)):
        assert torch.equal(model.generate(ids, past_key_values=cache, **options), expected)


def test_a_cache_layer_has_only_tensors_and_numbers(model, ids):
    for cache in (HyperAggCache(model.config), StaticHyperAggCache(model.config, 12)):
        model(ids, past_key_values=cache)
        for layer in cache.layers:
            for name, value in vars(layer).items():
                plain = (torch.Tensor, int, torch.device, torch.dtype, type(None))
                assert isinstance(value, plain), name


def test_a_cache_of_another_model_is_refused(make_model, ids):
    model = make_model("full_attention")
    keys = torch.zeros(2, 2, 3, 8)
    for cache in (DynamicCache([(keys, keys)] * 3), HyperAggCache(make_model("gated").config)):
        with pytest.raises(TypeError, match=r"past_key_values: .* expected a HyperAggCache"):
            model(ids, past_key_values=cache)


def test_training_keeps_a_cache_on_request_only(model, ids):
    model.train()
    assert model(ids).past_key_values is None
    output = model(ids, labels=ids, use_cache=True)
    assert output.past_key_values.get_seq_length() == 9
    assert model.eval()(ids).past_key_values.get_seq_length() == 9
    assert model.eval()(ids, use_cache=False).past_key_values is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_prefix_tuning_is_for_attention_only(make_model, ids):
    peft = pytest.importorskip("peft")
    settings = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=3,
        num_layers=2,
        token_dim=16,
        num_attention_heads=2,
    )
    model = peft.get_peft_model(make_model("full_attention"), settings)
    model(ids, labels=ids).loss.backward()
    assert any(weight.grad is not None for weight in model.parameters())
    model = peft.get_peft_model(make_model(["gated", "full_attention"]), settings)
    with pytest.raises(TypeError, match="past_key_values: the layer for 'gated'"):
        model(ids, labels=ids)


@pytest.mark.parametrize(
    "layer_types",
    ["gated", "prefix_sum", ["complex_decay", "identity"], ["associative", "gated_associative"]],
)
@torch.no_grad()
def test_rows_of_caches_of_any_lengths_continue_together(make_model, make_ids, layer_types):
    model = make_model(layer_types)
    texts = [make_ids(length, seed=length) for length in (1, 7, 4)]
    caches = [model(text[None], use_cache=True).past_key_values for text in texts]
    cache = HyperAggCache.concatenate(caches)
    assert cache.num_bytes == sum(each.num_bytes for each in caches)
    token = make_ids(3)[:, None]
    together = model(token, past_key_values=cache).logits
    for row, each in enumerate(caches):
        torch.testing.assert_close(
            together[row : row + 1], model(token[row : row + 1], past_key_values=each).logits
        )
    selected = cache.select_rows(torch.tensor([2, 0]))
    expected = model(token[[2, 0]], past_key_values=selected).logits
    torch.testing.assert_close(model(token, past_key_values=cache).logits[[2, 0]], expected)


def test_caches_with_keys_and_values_are_not_concatenated(make_model, make_ids):
    model = make_model(["gated", "full_attention"])
    cache = model(make_ids(4)[None], use_cache=True).past_key_values
    assert not cache.has_fixed_size
    with pytest.raises(ValueError, match="keys and values"):
        HyperAggCache.concatenate([cache, cache])
