"""The folder of a language model: weights, tokenizer, metrics and a model card."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hyperagg._common.atomic import atomic_write
from hyperagg._common.hub import push_folder
from hyperagg._common.model_card import model_card
from hyperagg._common.saved_files import raise_as_corrupt, read_json
from hyperagg.language.modeling_hyperagg import HyperAggForCausalLM
from hyperagg.language.perplexity import measure_perplexity
from hyperagg.language.tokenizer import load_tokenizer

__all__ = ["compute_metrics", "format_perplexity", "load_model", "push_to_hub", "write_metadata"]

_RESULTS = "results.json"
# What belongs to a model: weights, whole or in shards; configurations, tokenizer and results; the
# code that `save_pretrained` copies.
_MODEL_FILES = ("*.safetensors", "*.json", "*.py", "*.jinja")


def compute_metrics(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    **options: Any,
) -> dict[str, Any] | None:
    """Evaluate a causal language model on texts.

    Args:
        model, tokenizer, texts: see `measure_perplexity`.
        options: `window`, `stride`, `convention` and `progress` of `measure_perplexity`.

    Returns:
        {"perplexity", "perplexity_standard_error", "standard_error_unit", "standard_error_units",
        "perplexity_per_word", "bits_per_byte", "num_tokens"}, or None if there are no texts. The
        standard error is over that number of units, "documents" or "blocks"; all three are None if
        there is a single token.
    """
    if not texts:
        return None
    result = measure_perplexity(model, tokenizer, texts, **options)
    error = result.loss_error
    return {
        "perplexity": result.perplexity,
        "perplexity_standard_error": result.perplexity_standard_error,
        "standard_error_unit": error and error.unit,
        "standard_error_units": error and error.num_units,
        "perplexity_per_word": result.perplexity_per_word,
        "bits_per_byte": result.bits_per_byte,
        "num_tokens": result.num_tokens,
    }


def format_perplexity(metrics: Mapping[str, Any]) -> str:
    """Return the perplexity of `compute_metrics` with its standard error, as text.

    Metrics that an earlier version saved have no standard error.

    Example:
        >>> error = {"perplexity_standard_error": 0.4211, "standard_error_unit": "documents"}
        >>> format_perplexity({"perplexity": 46.318, **error, "standard_error_units": 60})
        '46.32 ± 0.42 (standard error over 60 documents)'
    """
    value, error = metrics["perplexity"], metrics.get("perplexity_standard_error")
    if error is None or not math.isfinite(error):
        return f"{value:.2f}"
    # Two digits of the standard error, and as many decimals of the value.
    decimals = min(4, max(0, 1 - math.floor(math.log10(error)))) if error > 0 else 2
    return (
        f"{value:,.{decimals}f} ± {error:,.{decimals}f} (standard error over "
        f"{metrics['standard_error_units']:,} {metrics['standard_error_unit']})"
    )


def write_metadata(folder: Path, model: PreTrainedModel, results: Mapping[str, Any]) -> None:
    """Write README.md and then results.json beside a saved model, each of them atomically.

    Args:
        folder: the folder of the model.
        model: the model.
        results: what to write as JSON; "data" is the source of the texts, "validation" the
            metrics on held-out texts or None, and "command" the command that trained the model, if
            it is known.
    """
    with atomic_write(folder / "README.md") as draft:
        draft.write_text(_model_card(folder.resolve().name, model, results), "utf-8")
    with atomic_write(folder / _RESULTS) as draft:
        draft.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def push_to_hub(
    folder: Path,
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    private: bool | None = None,
    commit_message: str = "Upload model",
) -> str:
    """Upload the folder of a language model to the Hugging Face Hub, with a model card.

    The card has the perplexity on held-out texts and the command that trained the model, if
    `hyperagg lm train` wrote the folder. Files that do not belong to the model stay where they are.

    Args:
        folder: a folder that `hyperagg lm train`, or `save_pretrained`, wrote.
        repo_id: the repository "owner/name"; it is created if it does not exist.
        revision: the branch to commit to (default: the main branch).
        token: the access token (default: the one that `hf auth login` saved).
        private: whether a new repository is private (default: the owner's setting).
        commit_message: the message of the commit.

    Returns:
        The URL of the commit.

    Raises:
        ValueError: if the folder does not hold a language model.
    """
    model, _ = load_model(folder)
    results: dict[str, Any] = {}
    if (folder / _RESULTS).is_file():
        with raise_as_corrupt(folder, _RESULTS):
            results = read_json(folder / _RESULTS)

    def save(target: Path) -> None:
        target.mkdir()
        for pattern in _MODEL_FILES:
            for file in folder.glob(pattern):
                shutil.copyfile(file, target / file.name)
        (target / "README.md").write_text(_model_card(repo_id, model, results), "utf-8")

    return push_folder(
        save,
        repo_id,
        revision=revision,
        token=token,
        private=private,
        commit_message=commit_message,
    )


def load_model(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer.

    Args:
        folder: a folder that `hyperagg lm train`, or `save_pretrained`, wrote.

    Returns:
        The model, in evaluation mode, and the tokenizer.

    Raises:
        ValueError: if the folder does not exist, does not hold a language model, or does not hold
            exactly the weights of the model in its config.json.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: folder not found; expected a folder that `lm train` wrote")
    if not (folder / "config.json").exists():
        if (folder / "checkpoints").is_dir():
            raise ValueError(
                f"{folder}: holds an interrupted training and no model yet; continue it with "
                "hyperagg lm train --resume"
            )
        raise ValueError(
            f"{folder}: config.json not found; expected a folder that `lm train` wrote"
        )
    try:
        loaded: Any = HyperAggForCausalLM.from_pretrained(folder, output_loading_info=True)
    except ImportError:
        raise  # a missing extra is not a damaged file
    # Whatever transformers raises, from RuntimeError to AttributeError.
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(folder)):
            raise  # by the checks of saved_folder, which name the file and the remedy
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "ignore_mismatched_sizes" in reason:
            reason = "the shapes of its weights differ from its config.json"
        raise ValueError(
            f"{folder}: cannot be read as a language model ({reason}); train the model again"
        ) from error
    model, loading_info = loaded
    # transformers initializes missing weights and ignores unexpected ones.
    missing = sorted(loading_info["missing_keys"])
    unexpected = sorted(loading_info["unexpected_keys"])
    if missing or unexpected:
        raise ValueError(
            f"{folder}: {len(missing)} weights of the model in config.json are missing and "
            f"{len(unexpected)} are unexpected ({(missing + unexpected)[0]}); the folder is "
            "incomplete or was written by another version; train the model again"
        )
    tokenizer = load_tokenizer(folder)
    if (largest := max(tokenizer.get_vocab().values())) >= model.config.vocab_size:
        raise ValueError(
            f"{folder}: the tokenizer has the id {largest:,}; config.json has "
            f"vocab_size={model.config.vocab_size:,}; copy the folder again"
        )
    return model.eval(), tokenizer


def _model_card(title: str, model: PreTrainedModel, results: Mapping[str, Any]) -> str:
    layer_types = ", ".join(dict.fromkeys(model.config.layer_types))
    facts = [
        f"parameters: {model.num_parameters():,}",
        f"layers: {model.config.num_hidden_layers} ({layer_types})",
        f"vocabulary: {model.config.vocab_size:,} tokens",
    ]
    if validation := results.get("validation"):
        facts += [
            f"perplexity on held-out texts: {format_perplexity(validation)}, of "
            f"{validation['num_tokens']:,} tokens with those that end a text",
            f"bits per byte on held-out texts: {validation['bits_per_byte']:.3f}",
        ]
    if command := results.get("command"):
        facts.append(f"trained by: `{command}`")
    data = results.get("data")
    return model_card(
        title,
        f"A causal language model of hyperagg{f', trained on {data}' if data else ''}.",
        {"library_name": "transformers", "pipeline_tag": "text-generation"},
        facts,
        "import hyperagg.language  # registers the model with transformers\n"
        "from transformers import pipeline\n\n"
        f'generator = pipeline("text-generation", {title!r})\n'
        'print(generator("The")[0]["generated_text"])',
    )
