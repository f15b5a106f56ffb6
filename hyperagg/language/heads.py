"""The heads of a language model that classify texts or tokens, or find answers.

`save_pretrained` copies this module and those that it imports relatively into a model's folder.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers.modeling_layers import GenericForQuestionAnswering, GenericForTokenClassification
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from transformers.utils import can_return_tuple

from hyperagg import ops

from .configuration_hyperagg import HyperAggConfig
from .modeling_hyperagg import HyperAggModel, HyperAggPreTrainedModel
from .token_layout import find_cu_seqlens, make_token_layout

__all__ = [
    "HyperAggForQuestionAnswering",
    "HyperAggForSequenceClassification",
    "HyperAggForTokenClassification",
]


class HyperAggForSequenceClassification(HyperAggPreTrainedModel):
    """Classify texts by a linear map on the mean vector of the tokens of each row.

    Args:
        config: a `HyperAggConfig` with `num_labels`.

    Cost: that of `HyperAggModel`, and O(d C) per row.

    Example:
        >>> import torch
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_labels=3)
        >>> HyperAggForSequenceClassification(config)(torch.tensor([[1, 2, 3]])).logits.shape
        torch.Size([1, 3])
    """

    # The loss is a mean over the batch that it is given: the Trainer has to divide the losses of
    # accumulated batches by their number.
    accepts_loss_kwargs = False

    def __init__(self, config: HyperAggConfig) -> None:
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)
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
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast:
        """Compute logits, (B, C), and the loss if there are labels.

        Args:
            input_ids, attention_mask, position_ids, inputs_embeds: see `HyperAggModel.forward`.
                Without an `attention_mask`, every position counts in the mean.
            labels: (B,) class ids, or float targets, as in the classifiers of transformers.
            use_cache: whether to return `past_key_values` (default: False).
            kwargs: those of `HyperAggModel.forward`, except for packed documents and a cache to
                continue from.

        Raises:
            ValueError: if rows hold several documents, or if there is a cache to continue from.
        """
        cache = kwargs.get("past_key_values")
        past_length = 0 if cache is None else cache.get_seq_length()
        if past_length:
            raise ValueError(
                f"past_key_values: {past_length} tokens; expected a whole text, since its class "
                "depends on the mean of all of its tokens"
            )
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=bool(use_cache),
            **kwargs,
        )
        x = outputs.last_hidden_state
        tokens = make_token_layout(
            x,
            attention_mask,
            position_ids=position_ids,
            seq_idx=kwargs.get("seq_idx"),
            cu_seqlens=find_cu_seqlens(kwargs),
            has_cache=True,  # refuses packed documents
        )
        layout = tokens.layout
        mean = ops.aggregate(
            tokens.gather(x), lengths=layout.lengths, padding=layout.padding, normalize="mean"
        )
        logits = self.score(mean[:, 0])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, pooled_logits=logits, config=self.config, **kwargs
            )
        return SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class HyperAggForTokenClassification(GenericForTokenClassification, HyperAggPreTrainedModel):
    """Classify each token by a linear map on its vector, which depends on it and those before it.

    Args:
        config: a `HyperAggConfig` with `num_labels`. `classifier_dropout` (default: 0.1) is the
            dropout before the map.

    Cost: that of `HyperAggModel`, and O(n d C).

    Example:
        >>> import torch
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_labels=3)
        >>> HyperAggForTokenClassification(config)(torch.tensor([[1, 2, 3]])).logits.shape
        torch.Size([1, 3, 3])
    """

    # The loss is a mean over the batch that it is given: the Trainer has to divide the losses of
    # accumulated batches by their number.
    accepts_loss_kwargs = False

    def __init__(self, config: HyperAggConfig) -> None:
        # The constructor of the first base class needs a registered configuration.
        HyperAggPreTrainedModel.__init__(self, config)
        self.num_labels = cast(int, config.num_labels)
        self.model = HyperAggModel(config)
        dropout = getattr(config, "classifier_dropout", None)
        self.dropout = nn.Dropout(0.1 if dropout is None else dropout)
        self.score = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()


class HyperAggForQuestionAnswering(GenericForQuestionAnswering, HyperAggPreTrainedModel):
    """Find the first and last token of an answer by a linear map on the vector of each token.

    A vector depends on its token and those before it, so the question has to precede the text.

    Args:
        config: a `HyperAggConfig`.

    Cost: that of `HyperAggModel`, and O(n d).

    Example:
        >>> import torch
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
        >>> HyperAggForQuestionAnswering(config)(torch.tensor([[1, 2, 3]])).start_logits.shape
        torch.Size([1, 3])
    """

    def __init__(self, config: HyperAggConfig) -> None:
        HyperAggPreTrainedModel.__init__(self, config)
        self.model = HyperAggModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()
