"""The configuration of a language model: its size, and what mixes the tokens in each layer."""

from __future__ import annotations

import math
from reprlib import repr as shorten
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RopeParameters

from hyperagg.layers import FORMS

__all__ = ["LAYER_TYPES", "HyperAggConfig"]

LAYER_TYPES = (*FORMS, "associative", "gated_associative", "full_attention", "identity")

DEFAULT_MAX_POSITION_EMBEDDINGS = 1024

# The smallest and the largest value of each integer, which may come from a file.
_LIMITS = {
    "vocab_size": (1, 2**31 - 1),
    "hidden_size": (1, 2**20),
    "intermediate_size": (1, 2**24),
    "num_hidden_layers": (1, 10_000),
    "expand": (1, 2**10),
    "conv_kernel_size": (0, 2**16),
    "num_associative_heads": (1, 2**20),
    "associative_head_dim": (1, 2**10),
    "num_attention_heads": (1, 2**20),
    "max_position_embeddings": (1, 2**31 - 1),
    "num_labels": (1, 2**31 - 1),
}
# Rotary embeddings whose angles do not depend on the length of the training texts.
_ROPE_TYPES_OF_ANY_LENGTH = ("default", "linear")


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
            `hyperagg.layers.CausalAggregation`; "associative" is the gated delta rule of
            `hyperagg.layers.AssociativeAggregation`, which can recall by content;
            "gated_associative" is the sum of "gated" and "associative"; "full_attention" is rotary
            attention with normalized queries and keys; "identity" does not mix tokens. A list with
            sums and attention gives a hybrid model.
        expand: channels per dimension of each sum, as in `CausalAggregation` (default: 2).
        output_gate: whether each sum has an output gate (default: True). With the defaults of
            `expand` and `output_gate`, a "gated" block has 12 D^2 parameters, as many as an
            attention block with a feed-forward layer of width 4 D.
        conv_kernel_size: K of a short convolution before each sum; 0 (default) omits it. The
            queries, keys and values of associative layers always have one, of K = 4 by default.
        num_attention_heads: H of the attention layers, a divisor of D (default: 4).
        num_associative_heads: heads of the associative layers, with 5 D E parameters each. None
            (default): D / 128, at least 1.
        associative_head_dim: E, the number of keys and of values of each of these heads (default:
            32). Its state has E^2 numbers.
        negative_eigenvalues: whether a token may negate what its key returned before, see
            `AssociativeAggregation`; it lets associative layers track states such as a parity
            (default: False).
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
        ValueError: if a value is of another type or out of range, if a layer type is unknown, if
            the number of layer types is not L, or if, in a model with attention, D / H is not an
            even integer or the rotary embedding is unknown.

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
    num_associative_heads: int | None = None
    associative_head_dim: int = 32
    negative_eigenvalues: bool = False
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
        for name in ("hidden_size", "num_hidden_layers", "expand"):  # defaults depend on them
            _check_integer(name, getattr(self, name))
        if "num_labels" in kwargs:
            _check_integer("num_labels", kwargs["num_labels"])
        if self.intermediate_size is None:
            self.intermediate_size = (4 if self.expand == 1 else 2) * self.hidden_size
        if self.num_associative_heads is None:
            self.num_associative_heads = max(1, self.hidden_size // 128)
        if self.layer_types is None:
            self.layer_types = "gated"
        if isinstance(self.layer_types, str):
            self.layer_types = [self.layer_types] * self.num_hidden_layers
        if self.max_position_embeddings is None and self._has_layer("prefix_sum"):
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
            "conv_kernel_size",
            "num_attention_heads",
            "num_associative_heads",
            "associative_head_dim",
        ):
            _check_integer(name, getattr(self, name))
        if self.max_position_embeddings is not None or self._has_layer("prefix_sum"):
            _check_integer("max_position_embeddings", self.max_position_embeddings)
        if not _is_positive(self.rms_norm_eps):
            raise ValueError(f"rms_norm_eps={self.rms_norm_eps!r}: expected a number > 0")
        for name in ("output_gate", "negative_eigenvalues", "tie_word_embeddings"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: expected True or False")
        if self.id2label is not None and not self.id2label:
            raise ValueError("num_labels=0: expected an integer >= 1")
        self._check_layer_types()
        if self._has_layer("full_attention"):
            self._check_attention()

    def _has_layer(self, layer_type: str) -> bool:
        return isinstance(self.layer_types, list) and layer_type in self.layer_types

    def _check_layer_types(self):
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

    def _check_attention(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads}: must divide "
                f"hidden_size={self.hidden_size}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads}: heads of {self.head_dim} "
                f"dimensions with hidden_size={self.hidden_size}; expected an even number, which "
                "the rotary embedding needs"
            )
        rope = self.rope_parameters
        if rope is None:
            return
        if not isinstance(rope, dict):
            raise ValueError(f"rope_parameters={rope!r}: expected a dictionary or None")
        rope_type, theta = rope.get("rope_type", "default"), rope.get("rope_theta", 1.0)
        if rope_type != "default" and rope_type not in ROPE_INIT_FUNCTIONS:
            raise ValueError(
                f"rope_parameters: rope_type={rope_type!r}; expected one of default, "
                f"{', '.join(ROPE_INIT_FUNCTIONS)}"
            )
        if not _is_positive(theta):
            raise ValueError(f"rope_parameters: rope_theta={theta!r}; expected a number > 0")
        if rope_type not in _ROPE_TYPES_OF_ANY_LENGTH and self.max_position_embeddings is None:
            raise ValueError(
                f"max_position_embeddings=None: expected an integer >= 1 with the rotary embedding "
                f"{rope_type!r}"
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


def _check_integer(name: str, value: Any) -> None:
    minimum, maximum = _LIMITS[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name}={shorten(value)}: expected an integer >= {minimum}")
    if value > maximum:
        raise ValueError(f"{name}={shorten(value)}: expected an integer <= {maximum}")


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0
