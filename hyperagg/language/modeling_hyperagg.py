"""The language model: embeddings, blocks of a mixer and a feed-forward layer, and its heads.

x  +=  mixer(RMSNorm(x)),     x  +=  W_2 GELU(W_1 RMSNorm(x))

`save_pretrained` copies this module and those that it imports relatively into a model's folder.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
)
from transformers.modeling_utils import slice_logits_to_keep
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from hyperagg import ops
from hyperagg.layers import FORMS, CausalAggregation, Layout
from hyperagg.layers.causal import ShortConvolution
from hyperagg.layers.recurrences import AbsolutePositions, ComplexDecay, ConstantDecay

from .cache import HyperAggCache, prepare_cache
from .configuration_hyperagg import HyperAggConfig

__all__ = [
    "HyperAggForCausalLM",
    "HyperAggForSequenceClassification",
    "HyperAggModel",
    "HyperAggPreTrainedModel",
]


# Older versions of PyTorch lack it.
_HAS_CHUNKED_LOSS = hasattr(nn, "LinearCrossEntropyOptions")


class HyperAggDecoderLayer(GradientCheckpointingLayer):
    """Apply a mixer and a feed-forward layer, each to the normalized input and added to it."""

    def __init__(self, config: HyperAggConfig, layer_idx: int) -> None:
        super().__init__()
        d = config.hidden_size
        assert config.layer_types is not None and config.intermediate_size is not None
        self.layer_type = config.layer_types[layer_idx]
        self.layer_idx = layer_idx
        if self.layer_type != "identity":
            self.mixer_norm = nn.RMSNorm(d, eps=config.rms_norm_eps)
        self.mixer: nn.Module | None = None
        if self.layer_type in FORMS:
            self.mixer = CausalAggregation(
                d,
                self.layer_type,
                expand=config.expand,
                output_gate=config.output_gate,
                conv_kernel_size=config.conv_kernel_size,
                max_length=config.max_position_embeddings,
                norm_eps=config.rms_norm_eps,
            )
        elif self.layer_type == "full_attention":
            self.mixer = Qwen3Attention(config, layer_idx)  # type: ignore[arg-type]
        self.mlp_norm = nn.RMSNorm(d, eps=config.rms_norm_eps)
        self.up = nn.Linear(d, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, d, bias=False)
        # The linear maps that are added to x start smaller. `_init_weights` receives a module
        # without its name, so they are marked here.
        for name, linear in self.named_modules():
            if name in ("mixer.out", "mixer.o_proj", "down"):
                linear.ends_residual_branch = True

    def forward(
        self,
        hidden_states: Tensor,
        layout: Layout,
        attention_mask: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> Tensor:
        x = hidden_states
        cache_layer: Any = None
        if past_key_values is not None and self.layer_type != "full_attention":
            cache_layer = past_key_values.layers[self.layer_idx]
        state = None
        if self.mixer is None:
            pass
        elif self.layer_type == "full_attention":
            x = (
                x
                + self.mixer(
                    self.mixer_norm(x),
                    position_embeddings=position_embeddings,
                    attention_mask=attention_mask,
                    past_key_values=past_key_values,
                    **kwargs,
                )[0]
            )
        else:
            y, state = self.mixer(
                self.mixer_norm(x),
                layout,
                None if cache_layer is None else cache_layer.state,
                return_history=cache_layer is not None and cache_layer.record_past,
            )
            x = x + y
        if cache_layer is not None:
            cache_layer.update_state(state, x.shape[1])
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class HyperAggPreTrainedModel(PreTrainedModel):
    """Define what the models share: the initialization of weights, and supported features."""

    config: HyperAggConfig
    config_class = HyperAggConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["HyperAggDecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": HyperAggDecoderLayer,
        "attentions": Qwen3Attention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize products to variance one, and 2 L residual branches to a sum of variance one.

        transformers does not call this for a module without parameters of its own that is defined
        outside of its package: it takes such a module for initialized.
        """
        resettable = (AbsolutePositions, ConstantDecay, ComplexDecay, ShortConvolution)
        if isinstance(module, resettable):
            module.reset_parameters()
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, 0.0, module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear):
            num_terms = module.in_features
            if getattr(module, "ends_residual_branch", False):
                num_terms *= 2 * self.config.num_hidden_layers
            init.normal_(module.weight, 0.0, num_terms**-0.5)
        else:
            super()._init_weights(module)


class HyperAggModel(HyperAggPreTrainedModel):
    """Map token ids to the vectors of the last layer.

    `layer_types` of the configuration selects the mixer of each layer. Rows may be padded on
    either side (`attention_mask`), or hold documents end to end (`position_ids` that start at 0
    with each document): neither sums nor attention cross the border of a document.

    Args:
        config: a `HyperAggConfig`.

    Numerics: sums in float32 or better, whatever the type of the weights.
    Cost: O(n d^2) time with sums alone, and O(n^2 d) more per attention layer. A decoding step of
        a layer of sums costs O(d^2), whatever the length of the context.

    Example:
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
        >>> HyperAggModel(config)(torch.tensor([[1, 2, 3]])).last_hidden_state.shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, config: HyperAggConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            HyperAggDecoderLayer(config, i) for i in range(config.num_hidden_layers)
        )
        self.has_attention = "full_attention" in (config.layer_types or ())
        if self.has_attention:
            self.rotary_emb = Qwen3RotaryEmbedding(config)  # type: ignore[arg-type]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Compute the vectors of the last layer.

        Args:
            input_ids: (B, N) int64; exactly one of `input_ids` and `inputs_embeds` is required.
            attention_mask: (B, N), or (B, S + N) after S cached tokens, nonzero for tokens and
                zero for padding. None: every position holds a token.
            position_ids: (B, N), for packed documents; see the class.
            past_key_values: a `HyperAggCache` to read and update, or an empty `DynamicCache()`.
            inputs_embeds: (B, N, D).
            use_cache: whether to create a cache if none is given. Ignored for packed documents,
                whose states are not meaningful.

        Returns:
            `last_hidden_state`, (B, N, D), and `past_key_values`.

        Raises:
            ValueError: if both or neither of `input_ids` and `inputs_embeds` are given, or if
                padding lies between tokens.
            TypeError: if `past_key_values` is a cache of another kind of model.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("input_ids, inputs_embeds: expected exactly one of the two")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids) * math.sqrt(self.config.hidden_size)
        x = inputs_embeds
        if past_key_values is not None:
            prepare_cache(past_key_values, self.config)
        past_length = 0 if past_key_values is None else past_key_values.get_seq_length()
        layout = _make_layout(attention_mask, position_ids if past_length == 0 else None, x)
        if layout.documents is not None:
            # The states of packed documents are not meaningful, and with a cache the mask of
            # attention would ignore their borders.
            past_key_values = None
        elif use_cache and past_key_values is None and not self.training:
            past_key_values = HyperAggCache(self.config)
        mask, rotation = None, None
        if self.has_attention:
            if position_ids is None:
                position_ids = torch.arange(x.shape[1], device=x.device)[None] + past_length
            mask = create_causal_mask(
                config=self.config,
                inputs_embeds=x,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
            )
            rotation = self.rotary_emb(x, position_ids=position_ids)
        for layer in self.layers:
            x = layer(
                x,
                layout,
                attention_mask=mask,
                position_embeddings=rotation,
                past_key_values=past_key_values,
                **kwargs,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(x), past_key_values=past_key_values
        )


class HyperAggForCausalLM(HyperAggPreTrainedModel, GenerationMixin):
    """Predict the next token: `HyperAggModel` with a softmax over the vocabulary.

    Args:
        config: a `HyperAggConfig`.

    Numerics: in training, the loss is computed by chunks of rows, so that the B N V logits are
        never stored at once, if PyTorch has `linear_cross_entropy`.
    Cost: that of `HyperAggModel`, and O(n d V) for the logits.

    Example:
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
        >>> model = HyperAggForCausalLM(config)
        >>> model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=2, do_sample=False).shape
        torch.Size([1, 5])
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: HyperAggConfig) -> None:
        super().__init__(config)
        self.model = HyperAggModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict, *args: Any, **kwargs: Any
    ) -> Any:
        """Create a `HyperAggCache` where `generate` would create a `DynamicCache`."""
        implementation = generation_config.cache_implementation
        dynamic = implementation in (None, "dynamic", "offloaded")
        if not dynamic and set(self.config.layer_types or ()) != {"full_attention"}:
            raise ValueError(
                f"cache_implementation={implementation!r}: expected None, 'dynamic' or "
                "'offloaded'; the state of an aggregation layer has the same size for any length"
            )
        given = model_kwargs.get("past_key_values") is not None
        if given or not dynamic or generation_config.use_cache is False:
            return super()._prepare_cache_for_generation(  # type: ignore[misc]
                generation_config, model_kwargs, *args, **kwargs
            )
        cache = HyperAggCache(self.config, offloading=implementation == "offloaded")
        if generation_config.is_assistant:
            cache.activate_past_recording()
        model_kwargs["past_key_values"] = cache
        return None

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Compute logits, or the loss.

        Args:
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache: see
                `HyperAggModel.forward`.
            labels: (B, N) the input ids themselves (they are shifted here), and -100 where no loss
                is wanted.
            logits_to_keep: number of last positions to compute logits for; 0 (default) is all.

        Returns:
            `loss`, if there are labels; `logits`, (B, N, V), which are None in training mode with
            labels; and `past_key_values`.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        x = slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep)
        loss, logits = None, None
        if (
            labels is not None
            and self.training
            and _HAS_CHUNKED_LOSS
            and type(self.lm_head) is nn.Linear
        ):
            loss = _chunked_loss(x, self.lm_head.weight, labels, kwargs.get("num_items_in_batch"))
        else:
            logits = self.lm_head(x)
        if labels is not None and loss is None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class HyperAggForSequenceClassification(HyperAggPreTrainedModel):
    """Classify texts by a linear map on the mean vector of the tokens of each row.

    Args:
        config: a `HyperAggConfig` with `num_labels`.

    Cost: that of `HyperAggModel`, and O(d C) per row.

    Example:
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_labels=3)
        >>> HyperAggForSequenceClassification(config)(torch.tensor([[1, 2, 3]])).logits.shape
        torch.Size([1, 3])
    """

    def __init__(self, config: HyperAggConfig) -> None:
        super().__init__(config)
        self.num_labels = int(config.num_labels or 2)
        self.model = HyperAggModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast:
        """Compute logits, (B, C), and the loss if there are labels.

        Args:
            input_ids, attention_mask, position_ids, inputs_embeds: see `HyperAggModel.forward`.
                Without an `attention_mask`, every position counts in the mean.
            labels: (B,) class ids, or float targets, as in the classifiers of transformers.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=False,
            **kwargs,
        )
        x = outputs.last_hidden_state
        layout = _make_layout(attention_mask, None, x)
        mean = ops.aggregate(x, lengths=layout.lengths, padding=layout.padding, normalize="mean")
        logits = self.score(mean[:, 0])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, pooled_logits=logits, config=self.config, **kwargs
            )
        return SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _chunked_loss(x: Tensor, weight: Tensor, labels: Tensor, items: Tensor | int | None) -> Tensor:
    """The mean (or sum / items) of -log p(next label), by chunks whose logits fit into a cache."""
    x, targets = x[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    total = F.linear_cross_entropy(
        x,
        weight.to(x.dtype),
        targets,
        reduction="sum",
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=min(512, len(x))),
    )
    return total / (items if items is not None else (targets != -100).sum())


def _make_layout(attention_mask: Tensor | None, position_ids: Tensor | None, x: Tensor) -> Layout:
    """The layout of the tokens x (B, N, D), the last ones of `attention_mask`."""
    batch, n, _ = x.shape
    if attention_mask is not None:
        if attention_mask.ndim != 2:
            raise ValueError(
                f"attention_mask: shape {tuple(attention_mask.shape)}; expected (B, N), nonzero "
                "for tokens"
            )
        mask = attention_mask[:, -n:]
        if not mask.all():
            return Layout.from_attention_mask(mask)
    if position_ids is not None and bool((position_ids.diff(dim=-1) != 1).any()):
        return Layout.from_position_ids(position_ids.expand(batch, n))
    return Layout()
