"""The language model: embeddings, blocks of a mixer and a feed-forward layer, and its heads.

x  +=  mixer(RMSNorm(x)),     x  +=  W_2 GELU(W_1 RMSNorm(x))
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache, GenerationMixin, PreTrainedModel
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

from .cache import AggregationCacheLayer
from .configuration_hyperagg import HyperAggConfig

__all__ = [
    "HyperAggForCausalLM",
    "HyperAggForSequenceClassification",
    "HyperAggModel",
    "HyperAggPreTrainedModel",
]


# Older versions of torch lack it.
_CHUNKED = hasattr(nn, "LinearCrossEntropyOptions")


class HyperAggDecoderLayer(GradientCheckpointingLayer):
    """One block: a mixer and a feed-forward layer, each behind a norm and added to its input."""

    def __init__(self, config: HyperAggConfig, layer_idx: int) -> None:
        super().__init__()
        d = config.hidden_size
        assert config.layer_types is not None and config.intermediate_size is not None
        self.kind = config.layer_types[layer_idx]
        self.layer_idx = layer_idx
        if self.kind != "identity":
            self.mixer_norm = nn.RMSNorm(d, eps=config.rms_norm_eps)
        self.mixer: nn.Module | None = None
        if self.kind in FORMS:
            self.mixer = CausalAggregation(
                d,
                self.kind,
                expand=config.expand,
                output_gate=config.output_gate,
                conv_kernel_size=config.conv_kernel_size,
                max_length=config.max_position_embeddings,
                norm_eps=config.rms_norm_eps,
            )
        elif self.kind == "full_attention":
            self.mixer = Qwen3Attention(config, layer_idx)  # type: ignore[arg-type]
        self.mlp_norm = nn.RMSNorm(d, eps=config.rms_norm_eps)
        self.up = nn.Linear(d, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, d, bias=False)
        # What is added to x starts smaller: `_init_weights` is shown a linear map by itself.
        for name, linear in self.named_modules():
            if name in ("mixer.out", "mixer.o_proj", "down"):
                linear.ends_branch = True

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
        memory = None
        if past_key_values is not None and self.kind != "full_attention":
            # No isinstance: it may be of a saved model's own copy of that class.
            memory = cast(AggregationCacheLayer, past_key_values.layers[self.layer_idx])
        state = None
        if self.mixer is None:
            pass
        elif self.kind == "full_attention":
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
                None if memory is None else memory.state,
                trace=memory is not None and memory.record_past,
            )
            x = x + y
        if memory is not None:
            memory.remember(state, x.shape[1])
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


class HyperAggPreTrainedModel(PreTrainedModel):
    """What the models share: the start of their weights, and what they can do."""

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
        """Products of size one go in, and 2 L residual branches add up to size one.

        A module without weights of its own is never asked for here: for code outside of its own
        package, transformers takes it for initialized.
        """
        own = (AbsolutePositions, ConstantDecay, ComplexDecay, ShortConvolution)
        if isinstance(module, own):
            module.reset_parameters()
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, 0.0, module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear):
            terms = module.in_features
            if getattr(module, "ends_branch", False):
                terms *= 2 * self.config.num_hidden_layers
            init.normal_(module.weight, 0.0, terms**-0.5)
        else:
            super()._init_weights(module)


class HyperAggModel(HyperAggPreTrainedModel):
    """Token ids to vectors of the last layer; the context of each place costs O(d) more.

    `layer_types` of the configuration says what mixes the tokens, layer by layer. Rows may be
    padded on either side (attention_mask), or hold documents end to end (position_ids that start
    again at 0): sums and attention never cross a border.
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
        """Arguments as of every decoder in transformers.

        Raises:
            ValueError: both or none of input_ids and inputs_embeds, or padding between tokens.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, one of the two")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids) * math.sqrt(self.config.hidden_size)
        x = inputs_embeds
        seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        layout = _layout(attention_mask, position_ids if seen == 0 else None, x)
        if layout.documents is not None:
            # The states of many documents are of no use, and with a cache attention's mask forgets
            # their borders.
            past_key_values = None
        elif use_cache and past_key_values is None and not self.training:
            past_key_values = DynamicCache(config=self.config)
        mask, rotation = None, None
        if self.has_attention:
            if position_ids is None:
                position_ids = torch.arange(seen, seen + x.shape[1], device=x.device)[None]
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
    """The language model: `HyperAggModel` with a softmax over the vocabulary."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: HyperAggConfig) -> None:
        super().__init__(config)
        self.model = HyperAggModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _prepare_static_cache(self, *args: Any, **kwargs: Any) -> Cache:
        if any(kind != "full_attention" for kind in self.config.layer_types or ()):
            raise ValueError(
                "cache_implementation: the state of an aggregation layer has one size for any "
                "length, and no static cache; leave it out"
            )
        return super()._prepare_static_cache(*args, **kwargs)  # type: ignore[misc]

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
        """`labels` (B, N) are the input ids themselves, -100 where no loss is wanted.

        In training, with labels, there are no logits in the output: B N V of them are never made.
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
        if labels is not None and self.training and _CHUNKED and type(self.lm_head) is nn.Linear:
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
    """Texts to labels: the mean over a row's own tokens, and a linear map on it."""

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
        """Without an attention_mask every token counts."""
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=False,
            **kwargs,
        )
        x = outputs.last_hidden_state
        layout = _layout(attention_mask, None, x)
        pooled = ops.aggregate(x, lengths=layout.lengths, padding=layout.padding, normalize="mean")[
            :, 0
        ]
        logits = self.score(pooled)
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
    """The mean (or sum / items) of -log p(next label), by chunks whose logits fit a cache."""
    x, targets = x[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    total = F.linear_cross_entropy(
        x,
        weight.to(x.dtype),
        targets,
        reduction="sum",
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=min(512, len(x))),
    )
    return total / (items if items is not None else (targets != -100).sum())


def _layout(attention_mask: Tensor | None, position_ids: Tensor | None, x: Tensor) -> Layout:
    """What attention_mask, else position_ids, say of the tokens x (B, N, D), the newest there."""
    batch, n, _ = x.shape
    if attention_mask is not None:
        if attention_mask.ndim != 2:
            raise ValueError(
                f"attention_mask: shape {tuple(attention_mask.shape)}; give (B, N), nonzero for "
                "tokens"
            )
        newest = attention_mask[:, -n:]
        if not newest.all():
            return Layout.padded(newest)
    if position_ids is not None and bool((position_ids.diff(dim=-1) != 1).any()):
        return Layout.packed(position_ids.expand(batch, n))
    return Layout()
