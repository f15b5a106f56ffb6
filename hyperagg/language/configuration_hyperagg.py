"""The configuration of a language model: its size, and what mixes the tokens in each layer."""

from __future__ import annotations

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import RopeParameters

from hyperagg.layers import FORMS

__all__ = ["LAYER_TYPES", "HyperAggConfig"]

LAYER_TYPES = (*FORMS, "full_attention", "identity")

DEFAULT_MAX_POSITION_EMBEDDINGS = 1024


@strict
class HyperAggConfig(PreTrainedConfig):
    """Store the configuration of a `HyperAggModel`.

    Args:
        vocab_size: V (default: 32,000).
        hidden_size: D (default: 256).
        intermediate_size: width of the feed-forward layers. None (default): 2 D, or 4 D with
            expand=1.
        num_hidden_layers: L (default: 4).
        layer_types: the mixer of each of the L layers, or one name for all of them (default:
            "gated"). "gated", "decay", "complex_decay" and "prefix_sum" are the forms of
            `hyperagg.layers.CausalAggregation`; "full_attention" is rotary attention with
            normalized queries and keys; "identity" does not mix tokens. A list with sums and
            attention gives a hybrid model.
        expand: channels per dimension of each sum, as in `CausalAggregation` (default: 2).
        output_gate: whether each sum has an output gate (default: True). With the defaults of
            `expand` and `output_gate`, a "gated" block has 12 D^2 parameters, as many as an
            attention block with a feed-forward layer of width 4 D.
        conv_kernel_size: K of a short convolution before each sum; 0 (default) omits it.
        num_attention_heads: H of the attention layers, a divisor of D (default: 4).
        max_position_embeddings: number of position vectors of "prefix_sum" layers; None (default)
            is 1,024 with such a layer. The other layer types accept sequences of any length.
        rms_norm_eps: epsilon of RMSNorm (default: 1e-6).
        tie_word_embeddings: whether the output layer shares the embedding (default: True).
        use_cache: whether the model returns a cache in evaluation mode if a call does not say
            (default: True).
        pad_token_id: id of the padding token, or None.
        bos_token_id: id of the token that begins a text, or None.
        eos_token_id: id, or ids, of the token that ends a text, or None.
        rope_parameters: parameters of the rotary position embedding of attention layers, or None
            for the defaults of transformers.

    Raises:
        ValueError: if a size is below 1, if a layer type is unknown, if the number of layer types
            is not L, or if H does not divide D in a model with attention.

    Example:
        >>> HyperAggConfig(num_hidden_layers=2, layer_types=["gated", "full_attention"]).layer_types
        ['gated', 'full_attention']
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
            self.max_position_embeddings = DEFAULT_MAX_POSITION_EMBEDDINGS
        self.check()
        super().__post_init__(**kwargs)

    def check(self):
        """Raise ValueError if a value is out of range, or if two of them do not fit.

        This is called at construction, and again when a model is built from the configuration or
        when it is saved, since its attributes can be assigned to.
        """
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "expand",
            "num_attention_heads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected an integer >= 1")
        if not isinstance(self.layer_types, list):
            raise ValueError(
                f"layer_types={self.layer_types!r}: expected a list with one name per layer, once "
                "the configuration is constructed"
            )
        unknown = [name for name in self.layer_types if name not in LAYER_TYPES]
        if unknown:
            raise ValueError(
                f"layer_types={unknown[0]!r}: expected one of {', '.join(LAYER_TYPES)}"
            )
        if len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types: {len(self.layer_types)} names for "
                f"num_hidden_layers={self.num_hidden_layers}; expected one name per layer"
            )
        if "full_attention" in self.layer_types and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads}: must divide "
                f"hidden_size={self.hidden_size}"
            )

    def save_pretrained(self, save_directory, push_to_hub=False, **kwargs):
        """Write config.json, as in the other configurations of transformers."""
        self.check()
        super().save_pretrained(save_directory, push_to_hub, **kwargs)

    # Read by the attention layer of transformers.
    attention_bias = False
    attention_dropout = 0.0

    @property
    def num_key_value_heads(self) -> int:
        return self.num_attention_heads

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def to_dict(self):
        """Return the dictionary that is saved as config.json.

        Its `layer_types` are names that every model of transformers shares; `mixers` has the names
        of `LAYER_TYPES`.
        """
        saved = super().to_dict()
        assert isinstance(self.layer_types, list)
        saved["mixers"] = list(self.layer_types)
        saved["layer_types"] = [
            name if name == "full_attention" else "linear_attention" for name in self.layer_types
        ]
        return saved

    def validate_layer_type(self):
        """Accept the names of `LAYER_TYPES`, which are checked at construction."""
