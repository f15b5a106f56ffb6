"""Language models of causal aggregation, as transformers models.

Importing this registers them with the Auto classes, so that `AutoModelForCausalLM.from_pretrained`,
`generate`, `pipeline`, the Trainer and PEFT treat them as any other model.
"""

from __future__ import annotations

try:
    import transformers as _transformers  # noqa: F401
except ImportError as error:
    raise ImportError(
        "language models need transformers; pip install 'hyperagg[language]' brings it"
    ) from error

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from hyperagg.language.cache import AggregationCacheLayer
from hyperagg.language.configuration_hyperagg import LAYER_TYPES, HyperAggConfig
from hyperagg.language.modeling_hyperagg import (
    HyperAggForCausalLM,
    HyperAggForSequenceClassification,
    HyperAggModel,
    HyperAggPreTrainedModel,
)

__all__ = [
    "LAYER_TYPES",
    "AggregationCacheLayer",
    "HyperAggConfig",
    "HyperAggForCausalLM",
    "HyperAggForSequenceClassification",
    "HyperAggModel",
    "HyperAggPreTrainedModel",
]

AutoConfig.register(HyperAggConfig.model_type, HyperAggConfig)
# Saved models say where their code is, for a process that has not imported this.
HyperAggConfig.register_for_auto_class()
for _auto, _model in (
    (AutoModel, HyperAggModel),
    (AutoModelForCausalLM, HyperAggForCausalLM),
    (AutoModelForSequenceClassification, HyperAggForSequenceClassification),
):
    _auto.register(HyperAggConfig, _model)
    _model.register_for_auto_class(_auto.__name__)
