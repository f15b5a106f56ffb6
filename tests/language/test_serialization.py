from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
from hyperagg.language.serialization import (
    compute_metrics,
    format_perplexity,
    load_model,
    push_to_hub,
    write_metadata,
)
from hyperagg.language.tokenizer import train_tokenizer

TEXTS = ["oil rose", "gold fell"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, "words", 10)


@pytest.fixture
def folder(tmp_path, tokenizer):
    torch.manual_seed(0)
    config = HyperAggConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1)
    HyperAggForCausalLM(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_model_card_and_the_results_describe_the_model(folder, tokenizer):
    model, _ = load_model(folder)
    metrics = compute_metrics(model, tokenizer, 3 * TEXTS, progress=False)
    assert metrics.keys() == {
        *("perplexity", "perplexity_per_word", "bits_per_byte", "num_tokens"),
        *("perplexity_standard_error", "standard_error_unit", "standard_error_units"),
    }
    assert (metrics["standard_error_unit"], metrics["standard_error_units"]) == ("blocks", 18)
    write_metadata(folder, model, {"data": "two texts", "validation": metrics})
    card = (folder / "README.md").read_text("utf-8")
    assert '\nlibrary_name: "transformers"\npipeline_tag: "text-generation"\n' in card
    perplexity = format_perplexity(metrics)
    assert perplexity.endswith(" (standard error over 18 blocks)")
    assert f"- perplexity on held-out texts: {perplexity}, of 18 tokens" in card
    assert json.loads((folder / "results.json").read_text("utf-8"))["validation"] == metrics
    write_metadata(folder, model, {"data": "two texts", "validation": None})
    assert "perplexity" not in (folder / "README.md").read_text("utf-8")


def test_a_folder_is_pushed_with_its_perplexity_and_its_command(folder, tokenizer, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    pushed = {}

    class Api:
        def __init__(self, token):
            pushed["token"] = token

        def create_repo(self, repo_id, **options):
            pushed["repo_id"] = repo_id

        def upload_folder(self, *, folder_path, **options):
            pushed.update({path.name: path.read_bytes() for path in folder_path.iterdir()})
            return SimpleNamespace(commit_url="https://example.org/commit")

    monkeypatch.setattr(hub, "HfApi", Api)
    (folder / "checkpoint-1").mkdir()
    (folder / "optimizer.pt").write_bytes(b"")
    model, _ = load_model(folder)
    metrics = compute_metrics(model, tokenizer, TEXTS, progress=False)
    results = {"data": "two texts", "validation": metrics, "command": "hyperagg lm train texts"}
    write_metadata(folder, model, results)
    assert push_to_hub(folder, "me/model", token="t") == "https://example.org/commit"
    assert (pushed["token"], pushed["repo_id"]) == ("t", "me/model")
    assert pushed["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert {"config.json", "tokenizer.json", "results.json"} <= pushed.keys()
    assert not pushed.keys() & {"checkpoint-1", "optimizer.pt"}
    card = pushed["README.md"].decode()
    assert f"- perplexity on held-out texts: {format_perplexity(metrics)}" in card
    assert "- trained by: `hyperagg lm train texts`\n" in card
    assert "pipeline(\"text-generation\", 'me/model')" in card
    # A folder of save_pretrained has neither.
    (folder / "results.json").unlink()
    push_to_hub(folder, "me/model")
    assert "A causal language model of hyperagg.\n" in pushed["README.md"].decode()
    with pytest.raises(ValueError, match="nowhere: folder not found"):
        push_to_hub(folder / "nowhere", "me/model")


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (46.318, 0.4211, "46.32 ± 0.42"),
        (46.318, 0.00123, "46.3180 ± 0.0012"),
        (4631.8, 42.1, "4,632 ± 42"),
        (4631.8, 421.1, "4,632 ± 421"),
        (46.318, 0.0, "46.32 ± 0.00"),
        (46.318, 1e-9, "46.3180 ± 0.0000"),
    ],
)
def test_a_perplexity_has_the_digits_of_its_standard_error(value, error, expected):
    metrics = {"perplexity": value, "perplexity_standard_error": error}
    metrics |= {"standard_error_unit": "documents", "standard_error_units": 1234}
    assert format_perplexity(metrics) == f"{expected} (standard error over 1,234 documents)"
    for none in ({}, {"perplexity_standard_error": float("inf")}):  # {}: of an earlier version
        assert format_perplexity({"perplexity": value, **none}) == f"{value:.2f}"


def test_no_texts_have_no_metrics(folder, tokenizer):
    assert compute_metrics(load_model(folder)[0], tokenizer, []) is None


def test_a_folder_with_names_of_another_version_is_refused(folder):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"mixers": ["gate"]}), "utf-8")
    with pytest.raises(ValueError, match=r"layer_types='gate': expected one of .*; save the"):
        load_model(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nowhere: folder not found"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"config\.json not found"):
        load_model(tmp_path)


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), "utf-8")


def test_what_transformers_has_written_is_read(folder):
    change(folder / "config.json", torch_dtype="torch.float32", use_cache=None)
    change(folder / "tokenizer_config.json", chat_template={"default": "x"})
    load_model(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "config.json", "tokenizer.json"])
def test_an_error_has_one_remedy(folder, name):
    if name == "config.json":
        change(folder / name, use_cache=5)
    else:
        (folder / name).write_text("{}")
    with pytest.raises(ValueError, match=name) as caught:
        load_model(folder)
    message = str(caught.value)
    assert message.count(str(folder)) == 1
    assert message.count("again") == (name != "adapter_config.json")


def test_a_regular_expression_that_gives_up_is_an_error_of_one_line(folder):
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    pattern = {"Regex": "(a|a)" * 300 + "[bc]"}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    change(folder / "tokenizer.json", pre_tokenizer=split, added_tokens=content["added_tokens"])
    model, tokenizer = load_model(folder)
    with pytest.raises(ValueError, match=r"cannot encode the texts \(.*retry-limit"):
        compute_metrics(model, tokenizer, ["a" * 400], progress=False)
