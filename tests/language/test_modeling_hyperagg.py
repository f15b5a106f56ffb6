"""The language model as a transformers model: states, generation, saving, other libraries."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, DynamicCache

from hyperagg.language import (
    HyperAggCache,
    HyperAggConfig,
    HyperAggForCausalLM,
    HyperAggForQuestionAnswering,
    HyperAggForSequenceClassification,
    HyperAggForTokenClassification,
    HyperAggModel,
)
from hyperagg.layers import batch_layout
from hyperagg.ops import Documents

V = 40
LAYER_TYPES = {
    "gated": ["gated", "gated"],
    "decay": ["decay", "decay"],
    "complex_decay": ["complex_decay", "complex_decay"],
    "prefix_sum": ["prefix_sum", "prefix_sum"],
    "associative": ["associative", "gated_associative"],
    "hybrid": ["gated", "full_attention"],
    "feed-forward": ["identity", "gated"],
    "attention": ["full_attention", "full_attention"],
}


def make(layer_types, model_class=HyperAggForCausalLM, **options):
    torch.manual_seed(0)
    config = HyperAggConfig(
        vocab_size=V,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        layer_types=layer_types,
        pad_token_id=0,
        **{"conv_kernel_size": 3} | options,
    )
    return model_class(config).eval()


@pytest.fixture(scope="module", params=LAYER_TYPES.values(), ids=LAYER_TYPES)
def model(request):
    return make(request.param)


def texts(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, V, (n,), generator=generator) for n in lengths]


def padded(rows, side):
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    for row, text in zip(ids, rows):
        start = longest - len(text) if side == "left" else 0
        row[start : start + len(text)] = text
    return ids, (ids != 0).long()


@settings(max_examples=10)
@given(data=st.data())
@pytest.mark.slow
def test_splitting_padding_and_packing_give_the_same_logits(model, data):
    """To within 1e-5; logits have variance one."""
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3), "lengths")
    rows = texts(*lengths)
    with torch.no_grad():
        whole = [model(row[None]).logits[0] for row in rows]
        ids, mask = padded(rows, "left")
        splits = data.draw(
            st.lists(st.integers(1, ids.shape[1]), max_size=3, unique=True), "splits"
        )
        borders = sorted({0, *splits, ids.shape[1]})
        position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        cache, parts = HyperAggCache(model.config), []
        for begin, end in zip(borders, borders[1:]):
            parts.append(
                model(
                    ids[:, begin:end],
                    attention_mask=mask[:, :end],
                    position_ids=position_ids[:, begin:end],
                    past_key_values=cache,
                ).logits
            )
        y = torch.cat(parts, 1)
        for row, expected in enumerate(whole):
            torch.testing.assert_close(y[row][mask[row] == 1], expected, rtol=0, atol=1e-5)
        ids, mask = padded(rows, "right")
        y = model(ids, attention_mask=mask).logits
        for row, expected in enumerate(whole):
            torch.testing.assert_close(y[row][mask[row] == 1], expected, rtol=0, atol=1e-5)
        packed = torch.cat([torch.arange(n) for n in lengths])[None]
        y = model(torch.cat(rows)[None].repeat(2, 1), position_ids=packed).logits
        for row in y:
            torch.testing.assert_close(row, torch.cat(whole), rtol=0, atol=1e-5)


def test_greedy_generation_takes_the_argmax_of_each_step(model):
    ids = torch.stack(texts(5, 5))
    expected = ids
    with torch.no_grad():
        for _ in range(8):
            expected = torch.cat([expected, model(expected).logits[:, -1:].argmax(-1)], 1)
    generate = dict(max_new_tokens=8, do_sample=False)
    assert torch.equal(model.generate(ids, **generate), expected)
    assert torch.equal(model.generate(ids, prefill_chunk_size=2, **generate), expected)


@pytest.mark.slow
def test_padded_prompts_generate_the_same_as_single_prompts(model):
    rows = texts(3, 7, 1)
    ids, mask = padded(rows, "left")
    for options in (dict(do_sample=False), dict(num_beams=3)):
        batch = model.generate(ids, attention_mask=mask, max_new_tokens=6, **options)
        for row, text in enumerate(rows):
            single = model.generate(text[None], max_new_tokens=6, **options)
            assert torch.equal(batch[row, -6:], single[0, -6:])


def test_prompt_lookup_decoding_generates_the_same(model):
    """Prompt lookup makes `generate` roll the state back after rejected candidates."""
    ids = texts(6)[0][None].repeat(1, 3)
    plain = model.generate(ids, max_new_tokens=16, do_sample=False)
    assisted = model.generate(ids, max_new_tokens=16, do_sample=False, prompt_lookup_num_tokens=4)
    assert torch.equal(plain, assisted)


def test_the_cache_can_be_offloaded_repeated_and_selected(model):
    ids = torch.stack(texts(5, 5))
    cache = HyperAggCache(model.config)
    with torch.no_grad():
        model(ids, past_key_values=cache)
        for layer in cache.layers:
            layer.offload()
            layer.prefetch()
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([3, 0]))
        y = model(ids[[1, 0]][:, -1:], past_key_values=cache).logits
        again = torch.cat([ids, ids[:, -1:]], 1)[[1, 0]]
        torch.testing.assert_close(y, model(again).logits[:, -1:], rtol=0, atol=1e-5)


def test_crop_restores_the_earlier_state(model):
    ids = texts(9)[0][None]
    with torch.no_grad():
        cache = HyperAggCache(model.config)
        model(ids[:, :4], past_key_values=cache)
        cache.activate_past_recording()
        model(ids[:, 4:7], past_key_values=cache)
        model(ids[:, 7:], past_key_values=cache)
        cache.crop(-4)
        assert cache.get_seq_length() == 5
        y = model(ids[:, 5:], past_key_values=cache).logits
        torch.testing.assert_close(y, model(ids).logits[:, 5:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer_types", ["gated", ["associative", "gated_associative"]], ids=str)
def test_the_state_does_not_grow_with_the_context(layer_types):
    model = make(layer_types)

    def bytes_after(n):
        cache = HyperAggCache(model.config)
        with torch.no_grad():
            model(torch.ones(1, n, dtype=torch.int64), past_key_values=cache)
        states = [layer.state for layer in cache.layers]
        tensors = [(*state.sums, state.conv_state) for state in states]
        return sum(t.untyped_storage().nbytes() for state in tensors for t in state)

    assert bytes_after(2000) == bytes_after(5)


def test_a_saved_and_loaded_model_generates_the_same(model, tmp_path):
    ids = texts(5)[0][None]
    expected = model.generate(ids, max_new_tokens=6, do_sample=False)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded.generate(ids, max_new_tokens=6, do_sample=False), expected)
    assert loaded.config.layer_types == model.config.layer_types


@pytest.mark.slow
def test_a_process_without_our_import_loads_the_model(tmp_path):
    model = make(["gated", "full_attention"])
    model.save_pretrained(tmp_path / "m")
    classifier = make("gated", HyperAggForSequenceClassification)
    classifier.save_pretrained(tmp_path / "classifier")
    ids = texts(5)[0][None]
    code = f"""
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification as Auto
classifier = Auto.from_pretrained({str(tmp_path / "classifier")!r}, trust_remote_code=True)
print(classifier(torch.tensor({ids.tolist()})).logits.tolist())
model = AutoModelForCausalLM.from_pretrained({str(tmp_path / "m")!r}, trust_remote_code=True)
print(model.generate(torch.tensor({ids.tolist()}), max_new_tokens=6, do_sample=False).tolist())
"""
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "code")}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    expected = [
        classifier(ids).logits.tolist(),
        model.generate(ids, max_new_tokens=6, do_sample=False).tolist(),
    ]
    assert ran.stdout.split("\n")[:-1] == [str(each) for each in expected], ran.stderr


def test_activation_checkpointing_gives_the_same_gradients():
    ids = torch.stack(texts(9, 9))
    gradients = []
    for checkpointing in (False, True):
        model = make(["gated", "full_attention"]).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(ids, labels=ids, use_cache=False).loss.backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)
        assert a.abs().max() > 0


def test_the_chunked_loss_equals_the_loss_of_the_logits():
    """Training computes the loss by chunks, evaluation from logits."""
    ids = torch.stack(texts(9, 9))
    labels = ids.clone()
    labels[0, 3] = -100
    model = make("gated")
    gradients = []
    for training in (False, True):
        output = model.train(training)(ids, labels=labels, use_cache=False)
        assert (output.logits is None) == training
        model.zero_grad()
        output.loss.backward()
        gradients.append([weight.grad for weight in model.parameters()])
        log_probs = model.eval()(ids).logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])
        expected = -log_probs[labels[:, 1:, None] != -100].mean()
        torch.testing.assert_close(output.loss, expected)
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b)


def test_bfloat16_stays_close_to_float32(model):
    ids = torch.stack(texts(12, 12))
    with torch.no_grad():
        exact = model(ids).logits
        half = HyperAggForCausalLM(model.config).eval().bfloat16()
        half.load_state_dict(model.state_dict())
        assert (half(ids).logits.float() - exact).abs().max() < 0.1


def test_padding_has_no_effect_on_a_classifier():
    model = make("gated", HyperAggForSequenceClassification, num_labels=3)
    torch.nn.init.normal_(model.score.weight)
    rows = texts(3, 8)
    for side in ("left", "right"):
        ids, mask = padded(rows, side)
        with torch.no_grad():
            batch = model(ids, attention_mask=mask).logits
            single = torch.cat([model(row[None]).logits for row in rows])
        torch.testing.assert_close(batch, single, rtol=0, atol=1e-5)
    assert model(ids, attention_mask=mask, labels=torch.tensor([0, 2])).loss.requires_grad


def test_initial_weights_keep_products_and_sums_of_branches_at_variance_one():
    torch.manual_seed(0)
    model = HyperAggForCausalLM(
        HyperAggConfig(
            vocab_size=500,
            hidden_size=64,
            num_hidden_layers=3,
            layer_types=["gated", "full_attention", "gated_associative"],
            num_associative_heads=16,
            associative_head_dim=8,
        )
    )
    residual_outputs = (".out.weight", "mixer.o_proj.weight", "down.weight")
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and "convolution" not in name:
            # Three layers have six branches.
            num_terms = weight.shape[1] * (6 if name.endswith(residual_outputs) else 1)
            assert weight.std().item() == pytest.approx(num_terms**-0.5, rel=0.1), name


def test_attention_normalizes_its_queries_and_keys():
    model = make("full_attention")
    (row,) = texts(9)
    before = model(row[None]).logits
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mixer.q_proj.weight *= 3
            layer.mixer.k_proj.weight *= 5
    torch.testing.assert_close(model(row[None]).logits, before, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("layer_types", ["gated", ["associative", "gated_associative"]], ids=str)
def test_low_rank_adapters_can_be_trained(layer_types):
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        make(layer_types), peft.LoraConfig(target_modules="all-linear", r=2)
    )
    ids = torch.stack(texts(6))
    model(ids, labels=ids).loss.backward()
    trained = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert trained and all("lora" in name for name in trained)


@pytest.mark.slow
def test_importing_the_package_replaces_no_cache_layers():
    """The table of cache layers is shared by all models of transformers."""
    code = """
from transformers.cache_utils import DYNAMIC_LAYER_TYPE_MAPPING as table, LinearAttentionLayer
table["decay"] = LinearAttentionLayer
before = dict(table)
import hyperagg.language
print({name: table[name] for name in before} == before)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.strip() == "True", ran.stderr


@pytest.mark.slow
def test_a_missing_package_is_one_line_that_names_the_extra():
    code = """
import sys
sys.modules["transformers"] = None
try:
    import hyperagg.language
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = "hyperagg.language requires transformers: pip install 'hyperagg[language]'"
    assert ran.stdout.strip() == expected, ran.stderr


def test_an_empty_dynamic_cache_is_accepted(model):
    ids = texts(9)[0][None]
    cache = DynamicCache()
    with torch.no_grad():
        model(ids[:, :5], past_key_values=cache)
        y = model(ids[:, 5:], past_key_values=cache).logits
        torch.testing.assert_close(y, model(ids).logits[:, 5:], rtol=0, atol=1e-5)


def test_the_model_returns_a_cache_to_continue_from(model):
    ids = texts(9)[0][None]
    with torch.no_grad():
        first = model(ids[:, :5], use_cache=True)
        assert first.past_key_values.get_seq_length() == 5
        y = model(ids[:, 5:], past_key_values=first.past_key_values).logits
        torch.testing.assert_close(y, model(ids).logits[:, 5:], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_an_assistant_model_generates_the_same(model):
    ids = texts(6)[0][None]
    plain = model.generate(ids, max_new_tokens=8, do_sample=False)
    assisted = model.generate(ids, max_new_tokens=8, do_sample=False, assistant_model=make("gated"))
    assert torch.equal(plain, assisted)


def test_one_forward_pass_builds_the_mask_of_packed_documents_once(monkeypatch):
    built = []

    class Recorded(Documents):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            built.append(self)

    monkeypatch.setattr(batch_layout, "Documents", Recorded)
    model = make(["gated", "decay"])
    model(torch.cat(texts(3, 5))[None], position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4]]))
    assert len(built) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(layer_types=["gated"]), "1 names for num_hidden_layers=2; expected one name per"),
        (
            dict(layer_types=["gated", "gates"]),
            "layer_types='gates': expected one of prefix_sum, decay, complex_decay, gated, "
            "associative, gated_associative, full_attention, identity",
        ),
        (
            dict(layer_types="full_attention", num_attention_heads=3),
            "num_attention_heads=3: must divide hidden_size=16",
        ),
        (dict(hidden_size=0), "hidden_size=0: expected an integer >= 1"),
        (dict(expand=0), "expand=0: expected an integer >= 1"),
    ],
)
def test_invalid_configurations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        HyperAggConfig(**dict(hidden_size=16, num_hidden_layers=2) | arguments)


def test_invalid_calls_are_refused():
    model = make("gated", HyperAggModel)
    ids = texts(3)[0][None]
    with pytest.raises(ValueError, match="expected exactly one of the two"):
        model()
    with pytest.raises(ValueError, match="cache_implementation='offloaded_static': expected"):
        make("gated").generate(ids, cache_implementation="offloaded_static", max_new_tokens=2)
    with pytest.raises(ValueError, match="sequence of 9 tokens: expected at most 8"):
        make("prefix_sum", max_position_embeddings=8)(texts(9)[0][None])
    attention = make("full_attention")
    cache = attention(ids, use_cache=True).past_key_values
    with pytest.raises(TypeError, match=r"past_key_values: .* expected a HyperAggCache"):
        model(ids, past_key_values=cache)


def test_embeddings_of_the_embedding_module_give_the_logits_of_the_ids(model):
    ids = torch.stack(texts(5, 5))
    embeddings = model.get_input_embeddings()(ids)
    torch.testing.assert_close(model(inputs_embeds=embeddings).logits, model(ids).logits)
    assert embeddings.square().mean().sqrt().item() == pytest.approx(1, rel=0.3)


def test_embeddings_of_more_tokens_keep_their_scale():
    model = make("gated")
    (ids,) = texts(5)
    expected = model(ids[None]).logits
    model.resize_token_embeddings(V + 8)
    logits = model(ids[None]).logits
    torch.testing.assert_close(logits[..., :V], expected)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert logits.shape[-1] == V + 8


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_tuned_prompts_of_token_embeddings_are_the_prompt_of_these_tokens(model):
    peft = pytest.importorskip("peft")
    prompt, ids = texts(3, 6)
    expected = model(torch.cat([prompt, ids])[None]).logits
    settings = peft.PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=3,
        num_layers=2,
        token_dim=16,
        num_attention_heads=2,
    )
    tuned = peft.get_peft_model(copy.deepcopy(model), settings)
    with torch.no_grad():
        weight = tuned.prompt_encoder["default"].embedding.weight
        weight.copy_(model.get_input_embeddings()(prompt))
        logits = tuned(ids[None], attention_mask=torch.ones(1, 6, dtype=torch.int64)).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_nan_in_padding_does_not_reach_a_token(model):
    ids = torch.stack(texts(6, 6))
    for mask in ([0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 0, 1, 1, 0, 1]):
        mask = torch.tensor([mask, [1] * 6])
        embeddings = model.get_input_embeddings()(ids)
        expected = model(inputs_embeds=embeddings, attention_mask=mask).logits
        embeddings[mask == 0] = torch.nan
        cache = HyperAggCache(model.config)
        y = model(inputs_embeds=embeddings, attention_mask=mask, past_key_values=cache).logits
        assert torch.equal(y[mask == 1], expected[mask == 1])
        after = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], 1)
        step = model(ids[:, :1], attention_mask=after, past_key_values=cache).logits
        assert step.isfinite().all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cache_params", "past_key_values"), ("cu_seqlens", "cu_seq_lens_q")],
)
def test_arguments_under_the_names_of_other_models_are_refused(name, expected):
    ids = texts(5)[0][None]
    for model_class in (HyperAggForCausalLM, *HEADS):
        with pytest.raises(TypeError, match=f"{name}: unknown argument; expected {expected}"):
            make("gated", model_class)(ids, **{name: torch.tensor([0, 2, 5])})


HEADS = {
    HyperAggForSequenceClassification: dict(labels=torch.tensor([0, 2])),
    HyperAggForTokenClassification: dict(labels=torch.tensor([[0, 1, 2, -100, 1], [2] * 5])),
    HyperAggForQuestionAnswering: dict(
        start_positions=torch.tensor([0, 2]), end_positions=torch.tensor([1, 4])
    ),
}


@pytest.mark.parametrize("model_class", HEADS)
def test_heads_train_and_are_loaded_by_the_auto_classes(model_class, tmp_path):
    model = make("gated", model_class, num_labels=3)
    ids = torch.stack(texts(5, 5))
    output = model.train()(ids, use_cache=False, **HEADS[model_class])
    output.loss.backward()
    assert all(weight.grad.any() for weight in model.parameters())
    model.save_pretrained(tmp_path)
    auto_class = getattr(transformers, model_class.__name__.replace("HyperAgg", "AutoModel"))
    loaded = auto_class.from_pretrained(tmp_path)
    assert type(loaded) is model_class
    for a, b in zip(loaded(ids).to_tuple(), model.eval()(ids, use_cache=False).to_tuple()):
        assert torch.equal(a, b)


def test_the_class_of_a_text_needs_the_whole_text():
    model = make("gated", HyperAggForSequenceClassification)
    ids = torch.stack(texts(5, 5))
    cache = model(ids, use_cache=True).past_key_values
    assert cache.get_seq_length() == 5
    assert model(ids).past_key_values is None
    with pytest.raises(ValueError, match="past_key_values: 5 tokens; expected a whole text"):
        model(ids, past_key_values=cache)


@pytest.mark.parametrize(
    ("layer_types", "model_class"),
    [
        ("gated", HyperAggForCausalLM),
        (["decay", "complex_decay"], HyperAggForCausalLM),
        (["associative", "gated_associative"], HyperAggForCausalLM),
        (["prefix_sum", "full_attention"], HyperAggForTokenClassification),
    ],
    ids=str,
)
def test_parameters_that_a_checkpoint_lacks_have_the_values_of_a_new_model(
    layer_types, model_class, tmp_path, monkeypatch
):
    """Memory holds NaN, so that a parameter without a defined start would be NaN."""
    heads = dict(num_associative_heads=64, associative_head_dim=2)
    model = make(layer_types, model_class, tie_word_embeddings=False, **heads)
    fresh = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    empty_like = torch.empty_like
    monkeypatch.setattr(
        torch, "empty_like", lambda *args, **kwargs: empty_like(*args, **kwargs).fill_(torch.nan)
    )
    for missing in weights:
        kept = {name: torch.full_like(w, 7.0) for name, w in weights.items() if name != missing}
        save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
        loaded = model_class.from_pretrained(tmp_path).state_dict()
        for name, weight in loaded.items():
            if name in kept:
                assert (weight == 7).all(), name
            elif fresh[name].std() < 1e-6 or name.endswith((".bias", "decay_rate", "frequency")):
                torch.testing.assert_close(weight, fresh[name], msg=name)
            else:
                assert weight.std() == pytest.approx(fresh[name].std().item(), rel=0.5), name
                spread = max(0.2, fresh[name].std().item())
                assert weight.mean().item() == pytest.approx(fresh[name].mean().item(), abs=spread)


@torch.no_grad()
def test_branches_of_a_tree_share_a_prefix_with_attention_alone(make_model, make_ids):
    """Three continuations of three tokens, in one row with a mask of four dimensions."""
    prefix, ends = make_ids(3), torch.tensor([[5], [6], [7]])
    ids = torch.cat([prefix, ends[:, 0]])[None]
    position_ids = torch.tensor([[0, 1, 2, 3, 3, 3]])
    sees = torch.ones(6, 6, dtype=torch.bool).tril()
    sees[3:, 3:] = torch.eye(3, dtype=torch.bool)
    mask = torch.zeros(6, 6).masked_fill(~sees, torch.finfo(torch.float32).min)[None, None]
    model = make_model("full_attention")
    y = model(ids, attention_mask=mask, position_ids=position_ids).logits[0, 3:]
    expected = model(torch.cat([prefix.expand(3, 3), ends], 1)).logits[:, -1]
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)
    for layer_types in ("gated", ["gated", "full_attention"]):
        with pytest.raises(ValueError, match=r"attention_mask: shape \(1, 1, 6, 6\); expected"):
            make_model(layer_types)(ids, attention_mask=mask, position_ids=position_ids)
