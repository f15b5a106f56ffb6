"""Language models of equal weights that differ in what mixes their tokens: rows of a table."""

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

from hyperagg.language.configuration_hyperagg import HyperAggConfig
from hyperagg.language.modeling_hyperagg import HyperAggForCausalLM

__all__ = ["MAMBA", "MIXERS", "SIZES", "Size", "build_model", "weights_besides"]


@dataclass(frozen=True)
class Size:
    """D, L and the heads of attention; 12 L D^2 weights besides the embedding, in every row."""

    d_model: int
    layers: int
    heads: int


SIZES = {
    "tiny": Size(64, 2, 2),
    "small": Size(128, 3, 4),
    "3M": Size(256, 4, 4),
    "10M": Size(384, 6, 6),
}


@dataclass(frozen=True)
class Mixer:
    """What mixes tokens in all layers but the last, and what in the last.

    Plain sums are of D channels; expanded ones of 2 D, read by an output gate. A convolution
    of four tokens stands before convolved ones.
    """

    layer: str
    last: str
    expanded: bool = False
    convolved: bool = False

    @property
    def endless(self) -> bool:
        """Whether it goes on beyond the rows of its training. Attention and absolute positions have
        learned nothing of places beyond them."""
        return {"prefix_sum", "full_attention"}.isdisjoint((self.layer, self.last))

    def arguments(self, layers: int) -> dict[str, Any]:
        """Of HyperAggConfig."""
        return {
            "layer_types": [self.layer] * (layers - 1) + [self.last],
            "expand": 2 if self.expanded else 1,
            "output_gate": self.expanded,
            "conv_kernel_size": 4 if self.convolved else 0,
        }


MIXERS = {
    "feed-forward only": Mixer("identity", "identity"),
    "sum (the source's form)": Mixer("prefix_sum", "prefix_sum"),
    "decay": Mixer("decay", "decay"),
    "complex_decay": Mixer("complex_decay", "complex_decay"),
    "gated": Mixer("gated", "gated"),
    "convolution + expanded decay": Mixer("decay", "decay", expanded=True, convolved=True),
    "expanded gate": Mixer("gated", "gated", expanded=True),
    "feed-forward + last attention": Mixer("identity", "full_attention"),
    "gate + last attention": Mixer("gated", "full_attention"),
    "expanded gate + last attention": Mixer("gated", "full_attention", expanded=True),
    "attention": Mixer("full_attention", "full_attention"),
}
# Transformers' own, with blocks and a start of its own. A row only where it is named: on a CPU it
# takes its time even with the parallel scan of the package mambapy, and hours without.
MAMBA = "mamba"


def build_model(
    name: str, size: Size, words: PreTrainedTokenizerBase, length: int
) -> PreTrainedModel:
    """A new model with as many weights besides the embedding as attention everywhere has.

    Args:
        name: a row of MIXERS, or MAMBA.
        size: D, L and heads; MAMBA has as many blocks as come nearest, and about its usual
            state of 16.
        words: says how many there are, and which of them begin and end a text.
        length: of the longest row, for the source's form.
    """
    return _model(_config(name, size, words, length))


def weights_besides(model: PreTrainedModel) -> int:
    """Weights besides the embedding."""
    embedding = model.get_input_embeddings().weight
    assert isinstance(embedding, Tensor)
    return model.num_parameters() - embedding.numel()


def _model(config: HyperAggConfig | MambaConfig) -> PreTrainedModel:
    if isinstance(config, MambaConfig):
        return MambaForCausalLM(config)
    return HyperAggForCausalLM(config)


def _config(
    name: str, size: Size, words: PreTrainedTokenizerBase, length: int
) -> HyperAggConfig | MambaConfig:
    d, layers = size.d_model, size.layers
    wanted = _weights(_ours(MIXERS["attention"], 4 * d, size, words, length))
    if name == MAMBA:
        usual, larger = (_weights(_mamba(1, 16 + more, size, words)) for more in (0, 1))
        blocks = round(wanted / usual)
        more = (wanted / blocks - usual) / (larger - usual)
        return _mamba(blocks, 16 + round(more), size, words)
    mixer = MIXERS[name]
    narrow = _weights(_ours(mixer, d, size, words, length))
    return _ours(mixer, round(d + (wanted - narrow) / (2 * d * layers)), size, words, length)


def _ours(
    mixer: Mixer, width: int, size: Size, words: PreTrainedTokenizerBase, length: int
) -> HyperAggConfig:
    return HyperAggConfig(
        vocab_size=len(words),
        hidden_size=size.d_model,
        intermediate_size=width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=length if mixer.layer == "prefix_sum" else None,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **mixer.arguments(size.layers),
    )


def _mamba(blocks: int, state: int, size: Size, words: PreTrainedTokenizerBase) -> MambaConfig:
    return MambaConfig(
        vocab_size=len(words),
        hidden_size=size.d_model,
        num_hidden_layers=blocks,
        state_size=state,
        use_mambapy=is_mambapy_available(),
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def _weights(config: HyperAggConfig | MambaConfig) -> int:
    with torch.device("meta"):
        return weights_besides(_model(config))
