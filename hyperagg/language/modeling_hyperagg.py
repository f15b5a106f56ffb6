"""The language model: embeddings, blocks of a mixer and a feed-forward layer, and the next token.

x  +=  mixer(RMSNorm(x)),     x  +=  W_2 GELU(W_1 RMSNorm(x))

`save_pretrained` copies this module and those that it imports relatively into a model's folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import slice_logits_to_keep
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from hyperagg._common.saved_files import raise_as_corrupt
from hyperagg.layers import (
    FORMS,
    AssociativeAggregation,
    CausalAggregation,
    GatedAssociativeAggregation,
)
from hyperagg.layers.associative import HeadDecay
from hyperagg.layers.causal import ShortConvolution
from hyperagg.layers.recurrences import (
    AbsolutePositions,
    ComplexDecay,
    ConstantDecay,
    InputGate,
)

from .cache import HyperAggCache, StaticHyperAggCache, prepare_cache
from .configuration_hyperagg import HyperAggConfig
from .loss import (
    LOSSES,
    causal_lm_loss,
    check_label_shape,
    chunked_causal_lm_loss,
    has_chunked_loss,
)
from .saved_folder import check_model_folder, check_sizes, check_weights
from .token_layout import TokenLayout, find_cu_seqlens, find_position_ids, make_token_layout

__all__ = ["HyperAggForCausalLM", "HyperAggModel", "HyperAggPreTrainedModel"]


class ScaledEmbedding(nn.Embedding):
    """Look token vectors up and multiply them by sqrt(D).

    The factor is part of this module, so that whatever makes, replaces or perturbs embeddings
    (`inputs_embeds`, prompt tuning, noise) works on the vectors that the first layer receives.

    Args:
        num_embeddings: V.
        embedding_dim: D.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.embed_scale = math.sqrt(embedding_dim)

    def forward(self, input_ids: Tensor) -> Tensor:
        return super().forward(input_ids) * self.embed_scale


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
        self.mixer = _make_mixer(config, layer_idx)
        self.mlp_norm = nn.RMSNorm(d, eps=config.rms_norm_eps)
        self.up = nn.Linear(d, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, d, bias=False)
        # The linear maps that are added to x start smaller, and gates have a bias. `_init_weights`
        # receives a module without its name, so they are marked here.
        for name, module in self.named_modules():
            if name == "down" or name.endswith((".out", ".o_proj")):
                module.ends_residual_branch = True
            if isinstance(module, InputGate):
                cast(Any, module.linear).is_input_gate = True

    def forward(
        self,
        hidden_states: Tensor,
        tokens: TokenLayout,
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
            if x.numel():  # The attention of transformers does not accept an empty batch.
                # Its mask is of the batch as it is, or of packed documents after `gather`.
                u = self.mixer_norm(x)
                y = self.mixer(
                    tokens.gather(u) if tokens.is_packed else u,
                    position_embeddings=position_embeddings,
                    attention_mask=attention_mask,
                    past_key_values=past_key_values,
                    **kwargs,
                )[0]
                x = x + (tokens.scatter(y) if tokens.is_packed else y)
        else:
            y, state = self.mixer(
                tokens.gather(self.mixer_norm(x)),
                tokens.layout,
                None if cache_layer is None else cache_layer.state,
                return_history=cache_layer is not None and cache_layer.record_past,
            )
            x = x + tokens.scatter(y)
        if cache_layer is not None:
            latest = tokens.find_latest() if cache_layer.record_past else None
            cache_layer.update_state(state, x.shape[1], latest)
        return x + self.down(F.gelu(self.up(self.mlp_norm(x))))


def _make_mixer(config: HyperAggConfig, layer_idx: int) -> nn.Module | None:
    """The mixer of a layer; None for "identity"."""
    assert config.layer_types is not None and config.num_associative_heads is not None
    d, layer_type = config.hidden_size, config.layer_types[layer_idx]
    eps, conv_kernel_size = config.rms_norm_eps, config.conv_kernel_size
    sums: dict[str, Any] = dict(expand=config.expand, output_gate=config.output_gate)
    pairs: dict[str, Any] = dict(
        num_heads=config.num_associative_heads,
        head_dim=config.associative_head_dim,
        negative_eigenvalues=config.negative_eigenvalues,
    )
    if layer_type in FORMS:
        return CausalAggregation(
            d,
            layer_type,
            **sums,
            conv_kernel_size=conv_kernel_size,
            max_length=config.max_position_embeddings,
            norm_eps=eps,
        )
    if layer_type == "associative":
        return AssociativeAggregation(
            d, **pairs, conv_kernel_size=conv_kernel_size or 4, norm_eps=eps
        )
    if layer_type == "gated_associative":
        return GatedAssociativeAggregation(
            d, **sums, **pairs, conv_kernel_size=conv_kernel_size, norm_eps=eps
        )
    if layer_type == "full_attention":
        return Qwen3Attention(config, layer_idx)  # type: ignore[arg-type]
    return None


class HyperAggPreTrainedModel(PreTrainedModel):
    """Define what the models share: the initialization of weights, and supported features.

    Raises:
        ValueError: if an attribute that was assigned to the configuration is out of range.
    """

    config: HyperAggConfig
    config_class = HyperAggConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["HyperAggDecoderLayer"]  # noqa: RUF012
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {  # noqa: RUF012
        "hidden_states": HyperAggDecoderLayer,
        "attentions": Qwen3Attention,
    }

    def __init__(self, config: HyperAggConfig, *args: Any, **kwargs: Any) -> None:
        config.check()
        super().__init__(config, *args, **kwargs)
        if self.loss_type in LOSSES:
            self.loss_function = LOSSES[self.loss_type]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Any = None,
        *model_args: Any,
        config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Load a model as `PreTrainedModel.from_pretrained` does, from checked files.

        Raises:
            ValueError: if a file in the folder is damaged or out of bounds, if the weights are not
                safetensors or not finite, or if their shapes differ from the configuration.
        """
        folder = Path(str(pretrained_model_name_or_path), kwargs.get("subfolder") or "")
        is_folder = pretrained_model_name_or_path is not None and folder.is_dir()
        if is_folder:
            kwargs.setdefault("use_safetensors", True)
            content = check_model_folder(folder)
            if config is None:
                with raise_as_corrupt(folder, "config.json"):
                    config, kwargs = HyperAggConfig.from_dict(
                        content, return_unused_kwargs=True, **kwargs
                    )
            if isinstance(config, HyperAggConfig) and not kwargs.get("ignore_mismatched_sizes"):
                check_sizes(folder, cls, config)
        loaded = super().from_pretrained(
            pretrained_model_name_or_path, *model_args, config=config, **kwargs
        )
        if is_folder:
            check_weights(folder, loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize products to variance one, and 2 L residual branches to a sum of variance one.

        transformers does not call this for a module without parameters of its own that is defined
        outside of its package: it takes such a module for initialized.
        """
        resettable = (AbsolutePositions, ConstantDecay, ComplexDecay, HeadDecay, ShortConvolution)
        if isinstance(module, resettable):
            parameters = list(module.parameters(recurse=False))
            loaded = [p for p in parameters if getattr(p, "_is_hf_initialized", False)]
            values = [p.clone() for p in loaded]
            module.reset_parameters()
            for parameter, value in zip(loaded, values):
                parameter.copy_(value)
        elif isinstance(module, nn.RMSNorm):
            init.ones_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, 0.0, module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear):
            num_terms = module.in_features
            if getattr(module, "ends_residual_branch", False):
                num_terms *= 2 * self.config.num_hidden_layers
            init.normal_(module.weight, 0.0, num_terms**-0.5)
            if getattr(module, "is_input_gate", False):
                init.copy_(module.bias, InputGate.initial_bias(module.out_features))
            elif module.bias is not None:
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)


# Of `HyperAggModel.forward`; `use_cache` is the last of them.
_NUM_ARGUMENTS = 6


# What other models call an argument of this one. transformers' models ignore arguments that they do
# not know; these would be wrong without a word.
_NAMES_ELSEWHERE = {
    "cache_params": "past_key_values",
    "past_key_value": "past_key_values",
    "cu_seqlens": "cu_seq_lens_q",
}


def _no_cache_in_training(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Let `use_cache` default to False in training mode: the states would only take memory."""

    @wraps(forward)
    def wrapper(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        is_given = kwargs.get("use_cache") is not None or len(args) == _NUM_ARGUMENTS
        if self.training and not is_given:
            kwargs["use_cache"] = False
        return forward(self, *args, **kwargs)

    return wrapper


class HyperAggModel(HyperAggPreTrainedModel):
    """Map token ids to the vectors of the last layer.

    `layer_types` of the configuration selects the mixer of each layer. Every row has the vectors
    that its tokens have alone: padding (zeros of `attention_mask`) may lie on either side of them
    and between them. Rows may also hold documents end to end (`position_ids` that start at 0 with
    each document, `seq_idx` or `cu_seq_lens_q`): neither sums nor attention cross their borders.

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
        self.embed_tokens = ScaledEmbedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            HyperAggDecoderLayer(config, i) for i in range(config.num_hidden_layers)
        )
        self.has_attention = "full_attention" in (config.layer_types or ())
        self.has_only_attention = set(config.layer_types or ()) == {"full_attention"}
        if self.has_attention:
            self.rotary_emb = Qwen3RotaryEmbedding(config)  # type: ignore[arg-type]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    @_no_cache_in_training
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
                zero for padding. None: every position holds a token. With full attention in all
                layers also (B, 1, N, S + N), what is added to the scores.
            position_ids: (B, N), for packed documents; see the class. With a mask of four
                dimensions, any positions.
            past_key_values: a `HyperAggCache` to read and update, or an empty `DynamicCache()`.
            inputs_embeds: (B, N, D), as `get_input_embeddings()` returns them.
            use_cache: whether to create a cache if none is given; None (default): as the
                configuration says in evaluation mode, and False in training mode. Packed documents
                leave no cache.
            kwargs: `seq_idx`, (B, N) the document of each token, and `cu_seq_lens_q` or
                `cu_seq_lens_k`, the cumulative lengths of the documents in the flattened batch, are
                other ways to give packed documents; `process_group`, which `SequenceParallel`
                passes, the ranks over which rows are cut; further arguments of attention layers.

        Returns:
            `last_hidden_state`, (B, N, D), and `past_key_values`.

        Raises:
            ValueError: if both or neither of `input_ids` and `inputs_embeds` are given, if a shape
                does not fit, or if packed documents are given a cache.
            TypeError: if `past_key_values` is a cache of another kind of model, or if an argument
                has the name that it has in other models.
        """
        for name, value in kwargs.items():
            if name in _NAMES_ELSEWHERE and value is not None:
                raise TypeError(
                    f"{name}: unknown argument; expected {_NAMES_ELSEWHERE[name]}, its name here"
                )
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("input_ids, inputs_embeds: expected exactly one of the two")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if past_key_values is not None:
            prepare_cache(past_key_values, self.config)
        past_length = 0 if past_key_values is None else past_key_values.get_seq_length()
        prepared_mask, layout_ids = None, position_ids
        if isinstance(attention_mask, dict):  # from `create_masks_for_generate`
            prepared_mask = attention_mask.get("full_attention")
            attention_mask = attention_mask["tokens"]
        elif attention_mask is not None and attention_mask.ndim == 4 and self.has_only_attention:
            # The mask alone says what a token attends to: positions may branch, as in a tree.
            attention_mask, prepared_mask, layout_ids = None, attention_mask, None
        tokens = make_token_layout(
            x,
            attention_mask,
            position_ids=layout_ids,
            seq_idx=kwargs.get("seq_idx"),
            cu_seqlens=find_cu_seqlens(kwargs),
            past_length=past_length,
            has_cache=past_key_values is not None,
            process_group=kwargs.get("process_group"),
        )
        if use_cache and past_key_values is None and not tokens.is_packed:
            past_key_values = HyperAggCache(self.config)
        mask, rotation = prepared_mask, None
        if self.has_attention:
            if tokens.is_packed:
                position_ids, attention_mask = tokens.position_ids, None
            elif position_ids is None:
                position_ids = find_position_ids(attention_mask, x, past_length)
            if tokens.is_token is not None:
                # Attention weights of padding are zero, and 0 * NaN is NaN.
                x = x.masked_fill(~tokens.is_token[..., None], 0)
            if prepared_mask is None and x.numel():
                mask = create_causal_mask(
                    config=self.config,
                    inputs_embeds=x,
                    attention_mask=attention_mask,
                    past_key_values=past_key_values,
                    position_ids=position_ids,
                )
            rotation = self.rotary_emb(x, position_ids=position_ids)
        for i in range(self.config.num_hidden_layers):  # fewer than there are, in an early exit
            x = self.layers[i](
                x,
                tokens,
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
        never stored at once, if PyTorch has `linear_cross_entropy` and `lm_head` is a linear map
        without hooks. Without any target the loss is 0.
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
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict,
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> Any:
        """Create a cache of this model where `generate` would create one of transformers."""
        implementation = generation_config.cache_implementation
        if implementation not in (None, "dynamic", "offloaded", "static"):
            if not self.model.has_only_attention:
                raise ValueError(
                    f"cache_implementation={implementation!r}: expected None, 'dynamic', "
                    "'offloaded' or 'static'"
                )
        elif (
            model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False
        ):
            cache: Cache
            if implementation == "static":
                # The length of the latest cache again, since another one is compiled anew.
                self._static_cache_length = max(
                    max_cache_length,
                    generation_config.max_cache_len or 0,
                    getattr(self, "_static_cache_length", 0),
                )
                cache = StaticHyperAggCache(self.config, self._static_cache_length)
            else:
                cache = HyperAggCache(self.config, offloading=implementation == "offloaded")
            if generation_config.is_assistant:
                cache.activate_past_recording()
            model_kwargs["past_key_values"] = cache
            return None
        return super()._prepare_cache_for_generation(  # type: ignore[misc]
            generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
        )

    @staticmethod
    def create_masks_for_generate(
        config: HyperAggConfig,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None,
        past_key_values: Cache | None = None,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return what a compiled decoding step needs of the mask, whose length grows with each.

        Sums need it only for the prompt: a token that was generated is never padding.
        """
        masks: dict[str, Any] = {"tokens": attention_mask if inputs_embeds.shape[1] > 1 else None}
        if "full_attention" in (config.layer_types or ()):
            masks["full_attention"] = create_causal_mask(
                config=config,
                inputs_embeds=inputs_embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_ids=position_ids,
            )
        return masks

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
        shift_labels: Tensor | None = None,
        return_logits: bool = False,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Compute logits, or the loss.

        Args:
            input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache: see
                `HyperAggModel.forward`.
            labels: (B, N) the input ids themselves (they are shifted here), and -100 where no loss
                is wanted.
            logits_to_keep: number of last positions to compute logits for; 0 (default) is all, the
                only choice with labels.
            shift_labels: (B, N) the target of each position, as `labels` that are shifted already.
            return_logits: whether to compute logits with the loss in training mode (default:
                False). They are computed too if `lm_head` has hooks, or is another module than
                `nn.Linear`, or if `loss_function` is assigned to.
            kwargs: `num_items_in_batch`, the number of targets by which the loss is divided; and
                those of `HyperAggModel.forward`.

        Returns:
            `loss`, if there are labels; `logits`, (B, N, V), which are None in training mode with
            labels; and `past_key_values`.

        Raises:
            ValueError: if the labels are not of shape (B, N), or are given with `logits_to_keep`.
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
        x = outputs.last_hidden_state
        has_labels = labels is not None or shift_labels is not None
        if has_labels:
            _check_labels(x, labels, shift_labels, logits_to_keep)
        loss, logits = None, None
        num_targets = x.shape[0] * (x.shape[1] - (shift_labels is None))
        if (
            has_labels
            and self.training
            and not return_logits
            and self.loss_function is causal_lm_loss
            and has_chunked_loss(self.lm_head, num_targets)
        ):
            items = kwargs.get("num_items_in_batch")
            loss = chunked_causal_lm_loss(x, self.lm_head.weight, labels, items, shift_labels)
        else:
            logits = self.lm_head(slice_logits_to_keep(x, logits_to_keep))
            if has_labels:
                loss = self.loss_function(
                    logits=logits,
                    labels=labels,
                    vocab_size=self.config.vocab_size,
                    shift_labels=shift_labels,
                    **kwargs,
                )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _check_labels(
    x: Tensor, labels: Tensor | None, shift_labels: Tensor | None, logits_to_keep: int | Tensor
) -> None:
    for name, given in (("labels", labels), ("shift_labels", shift_labels)):
        if given is not None:
            check_label_shape(name, given, x)
    if isinstance(logits_to_keep, Tensor) or logits_to_keep != 0:
        raise ValueError(f"logits_to_keep={logits_to_keep}: expected 0 with labels")


# The Trainer shifts the labels of label smoothing for the models in this table only.
MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[HyperAggConfig.model_type] = HyperAggForCausalLM.__name__
