"""The configuration of a language model: how many layers, and what each one mixes tokens with."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters

from hyperagg.layers import FORMS

__all__ = ["LAYER_TYPES", "HyperAggConfig"]

LAYER_TYPES = (*FORMS, "full_attention", "identity")


@strict
class HyperAggConfig(PreTrainedConfig):
    """Configuration of `HyperAggModel`.

    Args:
        vocab_size: V.
        hidden_size: D.
        intermediate_size: width of the feed-forward layers; None: 2 D, and 4 D with expand=1.
        num_hidden_layers: L.
        layer_types: what each of the L layers mixes tokens with, or one name for all of them:
            "gated", "decay", "complex_decay" and "prefix_sum" are forms of `hyperagg.layers.CausalAggregation`,
            "full_attention" is rotary attention with normed queries and keys, "identity" no mixing at
            all. A list with both kinds is a hybrid. None: "gated" everywhere.
        expand, output_gate: of every sum's layer, as in `CausalAggregation`. With the two defaults
            a block with gates has 12 D^2 weights, as many as one with attention and 4 D.
        conv_kernel_size: of a short convolution before each sum; 0: none.
        num_attention_heads: of the attention layers; must divide D.
        max_position_embeddings: places that the "prefix_sum" form has vectors for, 1024 unless named.
            The other forms have no end, and with them alone it stays None.
        rms_norm_eps, tie_word_embeddings, use_cache, and the ids of special tokens: as elsewhere
            in transformers.

    Raises:
        ValueError: a layer type that is not known, or not one for each layer.
    """

    model_type = "hyperagg"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012

    vocab_size: int = 32_000
    hidden_size: int = 256
    intermediate_size: int | None = None
    num_hidden_layers: int = 4
    layer_types: list[str] | str | None = None
    expand: int = 2
    output_gate: bool = True
    conv_kernel_size: int = 0
    num_attention_heads: int = 4
    max_position_embeddings: int | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    rope_parameters: RopeParameters | dict | None = None

    def __post_init__(self, **kwargs):
        self.layer_types = kwargs.pop("mixers", self.layer_types)
        if self.intermediate_size is None:
            self.intermediate_size = (4 if self.expand == 1 else 2) * self.hidden_size
        if self.layer_types is None:
            self.layer_types = "gated"
        if isinstance(self.layer_types, str):
            self.layer_types = [self.layer_types] * self.num_hidden_layers
        if "prefix_sum" in self.layer_types and self.max_position_embeddings is None:
            self.max_position_embeddings = 1024
        self._check()
        super().__post_init__(**kwargs)

    def _check(self):
        assert isinstance(self.layer_types, list)
        unknown = [name for name in self.layer_types if name not in LAYER_TYPES]
        if unknown:
            raise ValueError(f"layer_types: {unknown[0]!r}; there are {', '.join(LAYER_TYPES)}")
        if len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types: {len(self.layer_types)} names for "
                f"num_hidden_layers={self.num_hidden_layers}; give one for each layer"
            )
        if "full_attention" in self.layer_types and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads}: must divide "
                f"hidden_size={self.hidden_size}"
            )

    # What transformers' attention layer asks for besides.
    attention_bias = False
    attention_dropout = 0.0

    @property
    def num_key_value_heads(self) -> int:
        return self.num_attention_heads

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def to_dict(self):
        """As saved: `layer_types` has names that all of transformers knows, `mixers` has ours."""
        saved = super().to_dict()
        assert isinstance(self.layer_types, list)
        saved["mixers"] = list(self.layer_types)
        saved["layer_types"] = [
            name if name == "full_attention" else "linear_attention" for name in self.layer_types
        ]
        return saved

    def validate_layer_type(self):
        """Nothing: ours are more than the names that transformers knows, and checked above."""
