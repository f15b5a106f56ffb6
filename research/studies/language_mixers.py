"""Language models of equal size that differ in their mixers: the rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.import_utils import is_mambapy_available

from hyperagg.language import HyperAggConfig, HyperAggForCausalLM

__all__ = ["MAMBA", "MIXERS", "SIZES", "Size", "build_model", "non_embedding_parameters"]


@dataclass(frozen=True)
class Size:
    """D, the number of layers L and of attention heads, and the keys of an associative head.

    Every row has 12 L D^2 parameters besides the embedding.
    """

    d_model: int
    layers: int
    heads: int
    associative_head_dim: int = 32


SIZES = {
    "tiny": Size(64, 2, 2),
    "small": Size(128, 3, 4),
    "3M": Size(256, 4, 4),
    "10M": Size(384, 6, 6),
}


@dataclass(frozen=True)
class Mixer:
    """The mixer of all layers but the last, and the mixer of the last layer.

    Args:
        layer, last: layer types of `HyperAggConfig`.
        expanded: sum 2 D channels and read them through an output gate, instead of D channels.
        convolution: put a convolution of four tokens before the sum.
        pairs: channels of associative heads per dimension.
    """

    layer: str
    last: str
    expanded: bool = False
    convolution: bool = False
    pairs: float = 0.25

    @property
    def unbounded(self) -> bool:
        """Whether the model extends beyond the length of its training rows.

        Attention and absolute positions have not learned positions beyond it.
        """
        return {"prefix_sum", "full_attention"}.isdisjoint((self.layer, self.last))

    def arguments(self, size: Size) -> dict[str, Any]:
        """Build the arguments of `HyperAggConfig`."""
        return {
            "layer_types": [self.layer] * (size.layers - 1) + [self.last],
            "expand": 2 if self.expanded else 1,
            "output_gate": self.expanded,
            "conv_kernel_size": 4 if self.convolution else 0,
            "num_associative_heads": max(
                1, int(self.pairs * size.d_model // size.associative_head_dim)
            ),
            "associative_head_dim": size.associative_head_dim,
        }


MIXERS = {
    "feed-forward only": Mixer("identity", "identity"),
    "prefix_sum (original form)": Mixer("prefix_sum", "prefix_sum"),
    "decay": Mixer("decay", "decay"),
    "complex_decay": Mixer("complex_decay", "complex_decay"),
    "gated": Mixer("gated", "gated"),
    "convolution + expanded decay": Mixer("decay", "decay", expanded=True, convolution=True),
    "expanded gated": Mixer("gated", "gated", expanded=True),
    "gated + associative": Mixer("gated_associative", "gated_associative", pairs=1.0),
    "expanded gated + associative": Mixer("gated_associative", "gated_associative", expanded=True),
    "feed-forward + last attention": Mixer("identity", "full_attention"),
    "gated + last attention": Mixer("gated", "full_attention"),
    "expanded gated + last attention": Mixer("gated", "full_attention", expanded=True),
    "attention": Mixer("full_attention", "full_attention"),
}
# The implementation of transformers, with its own blocks and initialization. It is a row only if
# it is named: it is slow on a CPU even with the parallel scan of the package mambapy, and takes
# hours without it.
MAMBA = "mamba"


def build_model(
    name: str, size: Size, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> PreTrainedModel:
    """Build a model with as many non-embedding parameters as attention in every layer has.

    Args:
        name: a row of MIXERS, or MAMBA.
        size: D, layers and heads. MAMBA gets the number of blocks that comes nearest, with a state
            size near its default of 16.
        tokenizer: states the vocabulary size and the ids of special tokens.
        max_length: length of the longest row, for "prefix_sum".
    """
    return _model(_config(name, size, tokenizer, max_length))


def non_embedding_parameters(model: PreTrainedModel) -> int:
    """Count the parameters besides the embedding."""
    embedding = model.get_input_embeddings().weight
    assert isinstance(embedding, Tensor)
    return model.num_parameters() - embedding.numel()


def _model(config: HyperAggConfig | MambaConfig) -> PreTrainedModel:
    if isinstance(config, MambaConfig):
        return MambaForCausalLM(config)
    return HyperAggForCausalLM(config)


def _config(
    name: str, size: Size, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> HyperAggConfig | MambaConfig:
    d, layers = size.d_model, size.layers
    target = _count(_hyperagg(MIXERS["attention"], 4 * d, size, tokenizer, max_length))
    if name == MAMBA:
        default, larger = (_count(_mamba(1, 16 + more, size, tokenizer)) for more in (0, 1))
        blocks = round(target / default)
        more = (target / blocks - default) / (larger - default)
        return _mamba(blocks, 16 + round(more), size, tokenizer)
    mixer = MIXERS[name]
    narrow = _count(_hyperagg(mixer, d, size, tokenizer, max_length))
    width = round(d + (target - narrow) / (2 * d * layers))
    return _hyperagg(mixer, width, size, tokenizer, max_length)


def _hyperagg(
    mixer: Mixer, width: int, size: Size, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> HyperAggConfig:
    return HyperAggConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.d_model,
        intermediate_size=width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=max_length if mixer.layer == "prefix_sum" else None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **mixer.arguments(size),
    )


def _mamba(
    blocks: int, state_size: int, size: Size, tokenizer: PreTrainedTokenizerBase
) -> MambaConfig:
    return MambaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.d_model,
        num_hidden_layers=blocks,
        state_size=state_size,
        use_mambapy=is_mambapy_available(),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _count(config: HyperAggConfig | MambaConfig) -> int:
    with torch.device("meta"):
        return non_embedding_parameters(_model(config))
