"""Training of language models with the Trainer of transformers."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hyperagg._common.atomic import apply_umask
from hyperagg._common.progress import progress_bar
from hyperagg.language.packing import PackedDataset

__all__ = [
    "TrainingConfig",
    "TrainingResult",
    "find_last_checkpoint",
    "remove_checkpoints",
    "train_model",
]


@dataclass(frozen=True)
class TrainingConfig:
    """Store how a language model is trained: AdamW, a short warm-up, then a cosine decay to zero.

    Args:
        batch_size: rows per step, over all processes (default: 8).
        learning_rate: the maximum learning rate, a number > 0 (default: 0.004).
        epochs: passes over the rows, which may be a fraction (default: 1).
        max_steps: number of steps, which overrides `epochs`; None (default) follows `epochs`.
        weight_decay: weight decay of the linear maps; other parameters are not decayed (default:
            0.1).
        bf16: whether to compute in bfloat16 where that loses little (autocast). The weights stay
            in float32 (default: False).
        activation_checkpointing: whether to recompute the activations of a block in the backward
            pass instead of storing them (default: False).
        save_steps: steps between checkpoints (default: 200); None writes none.
        seed: seed of the order of the rows (default: 0).

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> TrainingConfig(max_steps=100).learning_rate
        0.004
    """

    batch_size: int = 8
    learning_rate: float = 4e-3
    epochs: float = 1.0
    max_steps: int | None = None
    weight_decay: float = 0.1
    bf16: bool = False
    activation_checkpointing: bool = False
    save_steps: int | None = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "save_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: expected an integer >= 1")
        for name in ("learning_rate", "epochs"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}={value}: expected a finite number > 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay={self.weight_decay}: expected a finite number >= 0")


@dataclass(frozen=True)
class TrainingResult:
    """Hold what `train_model` did.

    Args:
        steps: number of optimizer steps, over all calls.
        seconds: wall-clock time of the last call.
        tokens_per_second: tokens per second of the last call, over all processes.
        loss: pairs (step, mean loss since the previous pair).
    """

    steps: int
    seconds: float
    tokens_per_second: float
    loss: list[tuple[int, float]]


def train_model(
    model: PreTrainedModel,
    dataset: PackedDataset,
    output_dir: Path,
    config: TrainingConfig = TrainingConfig(),
    *,
    resume: bool = False,
    progress: bool | None = None,
) -> TrainingResult:
    """Train a causal language model on packed rows, in place, and save it.

    Runs in one process, or in each of those that `torchrun` or `accelerate launch` starts (DDP,
    or FSDP if accelerate is configured for it).

    Args:
        model: a model of this package, or any causal language model of transformers that accepts
            packed documents by `position_ids`.
        dataset: the rows, from `pack`.
        output_dir: the folder to save the model in. Checkpoints are its subfolders
            checkpoint-STEP.
        config: the training configuration.
        resume: whether to continue from the last complete checkpoint in `output_dir`, if there is
            one (default: False).
        progress: whether to show a progress bar; None (default) shows it in a terminal and in a
            notebook.

    Returns:
        A `TrainingResult`.

    Raises:
        ValueError: if `batch_size` is not a multiple of the number of processes.

    Numerics: the same seed, data and options give the same weights, also if training is
        interrupted and resumed.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    arguments = _training_arguments(output_dir, config, num_processes, len(dataset))
    enabled = progress if arguments.process_index == 0 else False
    start = time.perf_counter()
    with progress_bar("training", enabled) as update:
        tokens_per_step = config.batch_size * dataset.input_ids.shape[1]
        callback = _ProgressCallback(update, tokens_per_step)
        trainer = _Trainer(model=model, args=arguments, train_dataset=dataset, callbacks=[callback])
        trainer.remove_callback(PrinterCallback)
        checkpoint = find_last_checkpoint(output_dir) if resume else None
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - start
    # The Trainer gathers what FSDP has distributed over the processes.
    trainer.save_model(str(output_dir))
    if trainer.is_world_process_zero():
        apply_umask(output_dir, "*.safetensors")
    (output_dir / TRAINING_ARGS_NAME).unlink(missing_ok=True)
    steps = trainer.state.global_step
    num_tokens = (steps - callback.first_step) * tokens_per_step
    loss = [
        (int(entry["step"]), float(entry["loss"]))
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    return TrainingResult(steps, seconds, num_tokens / max(seconds, 1e-9), loss)


def find_last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint in a folder, or None.

    A checkpoint is complete if its trainer_state.json, which the Trainer writes last, can be read.
    """
    complete = []
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        try:
            state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        complete.append((int(state["global_step"]), checkpoint))
    return max(complete)[1] if complete else None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints in a folder, which are not needed once the model is saved."""
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(checkpoint)


def _training_arguments(
    output_dir: Path, config: TrainingConfig, num_processes: int, num_rows: int
) -> TrainingArguments:
    if config.batch_size % num_processes:
        raise ValueError(
            f"batch_size={config.batch_size}: expected a multiple of the number of processes, "
            f"{num_processes}"
        )
    steps = config.max_steps or max(1, round(config.epochs * num_rows / config.batch_size))
    return TrainingArguments(
        output_dir=str(output_dir),
        per_device_train_batch_size=config.batch_size // num_processes,
        learning_rate=config.learning_rate,
        max_steps=steps,
        warmup_steps=max(1, steps // 20),
        lr_scheduler_type="cosine",
        weight_decay=config.weight_decay,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        bf16=config.bf16,
        activation_checkpointing=config.activation_checkpointing,
        save_strategy="no" if config.save_steps is None else "steps",
        save_steps=config.save_steps or 1,
        save_total_limit=2,
        logging_steps=max(1, min(50, steps // 10)),
        seed=config.seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_drop_last=True,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        report_to="none",
    )


class _Trainer(Trainer):
    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Linear maps only: decay rates, positions near one and norms must not shrink to zero."""
        return [
            f"{name}.weight" for name, module in model.named_modules() if type(module) is nn.Linear
        ]


class _ProgressCallback(TrainerCallback):
    """Update a progress bar, and keep the step at which this call began."""

    def __init__(self, update: Callable[[float, str], None], tokens_per_step: int) -> None:
        self.update = update
        self.tokens_per_step = tokens_per_step
        self.first_step = 0
        self.start = 0.0
        self.loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first_step = state.global_step
        self.start = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.loss = f"loss {float(logs['loss']):.3f}  "

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        num_tokens = (state.global_step - self.first_step) * self.tokens_per_step
        speed = num_tokens / max(time.perf_counter() - self.start, 1e-9)
        status = f"step {state.global_step}/{state.max_steps}  {self.loss}{speed:,.0f} tokens/s"
        self.update(state.global_step / state.max_steps, status)
