"""Training by TRL, whose batches are padded in the middle: prompts left, completions right."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from hyperagg.language import HyperAggForSequenceClassification

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

pytestmark = [
    # Of TRL and the Trainer, about their own arguments.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
LAYER_TYPES = ["gated_associative", "full_attention"]
QUESTIONS = ["a question? ", "why? ", "how come it is so? ", "x"]


@pytest.fixture
def tokenizer():
    """A token per byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture
def options(tmp_path):
    return dict(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )


def assert_learns(trainer):
    """Two steps leave finite weights, each of which has changed."""
    before = copy.deepcopy(trainer.model.state_dict())
    assert trainer.train().global_step == 2
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2 and torch.tensor(losses).isfinite().all()
    for name, weight in trainer.model.state_dict().items():
        assert weight.isfinite().all(), name
        assert not torch.equal(weight, before[name]), name


def test_a_reward_model_learns_from_pairs_of_answers(make_model, tokenizer, options):
    model = make_model(
        LAYER_TYPES, HyperAggForSequenceClassification, vocab_size=len(tokenizer), num_labels=1
    )
    pairs = {
        "prompt": QUESTIONS,
        "chosen": ["yes of course.", "so", "because of rain", "ok"],
        "rejected": ["no", "never ever", "I do not know", "k"],
    }
    assert_learns(
        trl.RewardTrainer(
            model,
            args=trl.RewardConfig(max_length=64, **options),
            train_dataset=datasets.Dataset.from_dict(pairs),
            processing_class=tokenizer,
        )
    )


def test_a_model_learns_from_rewards_of_what_it_generates(make_model, tokenizer, options):
    model = make_model(LAYER_TYPES, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2)
    prompts = {"prompt": [question for question in QUESTIONS for _ in range(2)]}

    def count_characters(completions, **_):
        return [float(len(set(completion))) for completion in completions]

    assert_learns(
        trl.GRPOTrainer(
            model,
            reward_funcs=count_characters,
            args=trl.GRPOConfig(num_generations=4, max_completion_length=8, **options),
            train_dataset=datasets.Dataset.from_dict(prompts),
            processing_class=tokenizer,
        )
    )


def test_a_model_learns_from_texts(make_model, tokenizer, options):
    model = make_model(LAYER_TYPES, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2)
    assert_learns(
        trl.SFTTrainer(
            model,
            args=trl.SFTConfig(max_length=64, **options),
            train_dataset=datasets.Dataset.from_dict({"text": QUESTIONS}),
            processing_class=tokenizer,
        )
    )


def test_a_model_learns_from_preferences(make_model, tokenizer, options):
    model = make_model(LAYER_TYPES, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2)
    pairs = {
        "prompt": QUESTIONS,
        "chosen": ["yes of course.", "so", "because of rain", "ok"],
        "rejected": ["no", "never ever", "I do not know", "k"],
    }
    assert_learns(
        trl.DPOTrainer(
            model,
            ref_model=copy.deepcopy(model),
            args=trl.DPOConfig(max_length=64, **options),
            train_dataset=datasets.Dataset.from_dict(pairs),
            processing_class=tokenizer,
        )
    )
