"""Language models of causal aggregation, as transformers models.

Importing this package registers them with the Auto classes of transformers, so that
`AutoModelForCausalLM.from_pretrained`, `generate`, `pipeline`, the Trainer and PEFT treat them as
any other model.
"""

from __future__ import annotations

try:
    import accelerate as _accelerate  # noqa: F401
    import tokenizers as _tokenizers  # noqa: F401
    import torch as _torch  # noqa: F401
    import transformers as _transformers
except ImportError as error:
    raise ImportError(
        f"hyperagg.language requires {error.name}: pip install 'hyperagg[language]'"
    ) from error

from hyperagg.language.cache import HyperAggCache
from hyperagg.language.configuration_hyperagg import LAYER_TYPES, HyperAggConfig
from hyperagg.language.heads import (
    HyperAggForQuestionAnswering,
    HyperAggForSequenceClassification,
    HyperAggForTokenClassification,
)
from hyperagg.language.modeling_hyperagg import (
    HyperAggForCausalLM,
    HyperAggModel,
    HyperAggPreTrainedModel,
)
from hyperagg.language.sequence_parallel import SequenceParallel

__all__ = [
    "LAYER_TYPES",
    "HyperAggCache",
    "HyperAggConfig",
    "HyperAggForCausalLM",
    "HyperAggForQuestionAnswering",
    "HyperAggForSequenceClassification",
    "HyperAggForTokenClassification",
    "HyperAggModel",
    "HyperAggPreTrainedModel",
    "SequenceParallel",
]


def _register_auto_classes() -> None:
    """Make the models known to the Auto classes, in this process and in the folders they save.

    `register` maps the model type "hyperagg" to our classes in this process.
    `register_for_auto_class` makes `save_pretrained` copy the code of a model into its folder, for
    a process that has not imported this package (`trust_remote_code=True`).
    """
    _transformers.AutoConfig.register(HyperAggConfig.model_type, HyperAggConfig)
    HyperAggConfig.register_for_auto_class()
    for auto_class, model_class in (
        (_transformers.AutoModel, HyperAggModel),
        (_transformers.AutoModelForCausalLM, HyperAggForCausalLM),
        (_transformers.AutoModelForSequenceClassification, HyperAggForSequenceClassification),
        (_transformers.AutoModelForTokenClassification, HyperAggForTokenClassification),
        (_transformers.AutoModelForQuestionAnswering, HyperAggForQuestionAnswering),
    ):
        auto_class.register(HyperAggConfig, model_class)
        model_class.register_for_auto_class(auto_class.__name__)


_register_auto_classes()
