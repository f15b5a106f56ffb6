"""The folder of a language model: model, tokenizer, what it was measured at, and a card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

import hyperagg.language  # noqa: F401  (registers our models with the Auto classes)
from hyperagg._common.atomic import atomic_write
from hyperagg.language.perplexity import measure_perplexity
from hyperagg.language.tokenizer import load_tokenizer

__all__ = ["complete", "load", "measured"]


def measured(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    **options: Any,
) -> dict[str, float] | None:
    """Perplexity and bits per byte as numbers to be written down; None where there is no text."""
    if not texts:
        return None
    result = measure_perplexity(model, tokenizer, texts, **options)
    return {
        "perplexity": result.per_token,
        "perplexity_per_word": result.per_word,
        "bits_per_byte": result.bits_per_byte,
        "tokens": result.tokens,
    }


def complete(folder: Path, model: PreTrainedModel, results: Mapping[str, Any]) -> None:
    """Write README.md and results.json beside a model; results.json is the last to be there."""
    with atomic_write(folder / "README.md") as draft:
        draft.write_text(_card(model, results), "utf-8")
    with atomic_write(folder / "results.json") as draft:
        draft.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and its tokenizer.

    Raises:
        ValueError: the folder is not there, or holds no language model, or not all of its weights.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; name one that `lm train` wrote")
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder}: there is no config.json in it; name a folder that `lm train` wrote"
        )
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other shapes than its config.json says"
        raise ValueError(f"{folder}: no language model can be read from it ({reason})") from error
    model, loading = found
    # transformers begins anew with what is missing and leaves out what it does not know.
    amiss = sorted(loading["missing_keys"]) + sorted(loading["unexpected_keys"])
    if amiss:
        raise ValueError(
            f"{folder}: its weights are not those of the model in its config.json: "
            f"{len(loading['missing_keys'])} are missing and {len(loading['unexpected_keys'])} too "
            f"many ({amiss[0]}); it was saved by another version, or not as a whole"
        )
    return model.eval(), load_tokenizer(folder)


def _card(model: PreTrainedModel, results: Mapping[str, Any]) -> str:
    validation = results.get("validation") or {}
    kinds = ", ".join(dict.fromkeys(model.config.layer_types))
    line = ""
    if validation:
        line = (
            f"On held-out texts: perplexity {validation['perplexity']:.2f} a token, "
            f"{validation['bits_per_byte']:.3f} bits a byte.\n\n"
        )
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n"
        f"A language model of {model.num_parameters():,} parameters in "
        f"{model.config.num_hidden_layers} layers ({kinds}), trained with hyperagg on "
        f"{results['data']}.\n\n{line}"
        "```python\nimport hyperagg.language\n"
        "from transformers import pipeline\n\n"
        'write = pipeline("text-generation", "FOLDER")\n'
        'print(write("The")[0]["generated_text"])\n```\n'
    )
