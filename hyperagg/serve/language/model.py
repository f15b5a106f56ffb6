"""A language model that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hyperagg.language import HyperAggCache
from hyperagg.language.serialization import load_model

__all__ = ["ServedLanguageModel"]


class ServedLanguageModel:
    """A language model that is served; `load_models` makes it.

    Args:
        source: the folder or the repository id that the user gave.
        name: its name in requests.
        folder: where the model is.
        threads: the number of threads of PyTorch (default: unchanged).

    Attributes:
        control_tokens: the tokens, by their ids, that a chat template may write and the content of
            a message may not.
    """

    kind: Literal["language"] = "language"

    def __init__(self, source: str, name: str, folder: Path, *, threads: int | None = None) -> None:
        self.source, self.name, self.threads = source, name, threads
        self.created = int((folder / "config.json").stat().st_mtime)
        # Bars on standard error would stand between the lines of the log.
        transformers.logging.disable_progress_bar()
        loaded: tuple[PreTrainedModel, Any] = load_model(folder)
        self.model: PreTrainedModel = loaded[0]
        self.tokenizer: PreTrainedTokenizerFast = loaded[1]
        # Prompts are whole: a limit is an error, whatever the tokenizer was saved with.
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        self.control_tokens = _control_tokens(self.tokenizer)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Compile, or load from the cache, every kernel that requests use."""
        cache = HyperAggCache(self.model.config)
        end = self.tokenizer.eos_token_id
        for ids in ([end] * 8, [end]):
            self.model(torch.tensor([ids]), past_key_values=cache, use_cache=True)

    def info(self) -> dict[str, Any]:
        """Return what is particular to this model."""
        return {
            "model_id": self.source,
            "model_dtype": str(self.model.dtype).removeprefix("torch."),
            "model_type": {"causal_lm": {}},
            "kind": self.kind,
            "num_parameters": self.model.num_parameters(),
            "vocab_size": self.model.config.vocab_size,
            "chat": self.tokenizer.chat_template is not None,
        }

    @property
    def max_context(self) -> int | None:
        """The number of tokens of a text, if layers of the model limit it."""
        config = self.model.config
        limited = "prefix_sum" in config.layer_types
        return int(config.max_position_embeddings) if limited else None


def _control_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[int, str]:
    """The special tokens by their ids, without that for unknown words, which any text may have."""
    added = tokenizer.added_tokens_decoder.items()
    special = {token: each.content for token, each in added if each.special}
    special.update(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens))
    if tokenizer.unk_token_id not in (None, tokenizer.eos_token_id):
        special.pop(tokenizer.unk_token_id, None)
    return special
