"""Training a language model by the transformers Trainer."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TimeRemainingColumn
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

from hyperagg.language.packing import PackedRows

__all__ = ["Recipe", "Trained", "last_checkpoint", "remove_checkpoints", "train_model"]


@dataclass(frozen=True)
class Recipe:
    """How a language model is trained: AdamW, a short warm-up, then a cosine down to nothing.

    Args:
        batch_size: rows a step, over all processes.
        learning_rate: at its highest.
        epochs: passes over the rows; may be a fraction.
        max_steps: steps in all, in place of epochs.
        weight_decay: of the linear maps; nothing else is drawn to zero.
        bf16: compute in bfloat16 where that loses little (autocast); weights stay in float32.
        activation_checkpointing: compute a block's inside again in the backward pass instead of
            keeping it.
        save_steps: how often a state to resume from is written; None: never.
        seed: of the order of the rows.
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


@dataclass(frozen=True)
class Trained:
    """What a training was.

    Args:
        steps: of the optimizer.
        seconds: of wall clock, in the last call.
        tokens_per_second: over all processes, in the last call.
        loss: [(step, mean loss since the one before)].
    """

    steps: int
    seconds: float
    tokens_per_second: float
    loss: list[tuple[int, float]]


def train_model(
    model: PreTrainedModel,
    rows: PackedRows,
    out: Path,
    recipe: Recipe = Recipe(),
    *,
    resume: bool = False,
    shown: bool = True,
) -> Trained:
    """Train a causal model on packed rows, in place, and save it in `out`.

    Runs in one process, or in each of those that torchrun or `accelerate launch` starts (DDP, and
    FSDP where accelerate is told so).

    Args:
        model: of this library, or any causal model of transformers that packs by position_ids.
        rows: of `pack`.
        out: the folder to save it in; states to resume from are checkpoint-STEP folders there.
        recipe: how.
        resume: go on from the last whole state in `out`, if there is one.
        shown: a progress bar.

    Raises:
        ValueError: batch_size does not divide among the processes, or no learning rate.
    """
    if not 0 < recipe.learning_rate < float("inf"):
        raise ValueError(f"learning_rate={recipe.learning_rate}: give a number above 0")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    arguments = _arguments(out, recipe, processes, len(rows))
    start = time.perf_counter()
    bar = _Bar(recipe.batch_size * rows.token_ids.shape[1], shown and arguments.process_index == 0)
    trainer = _Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[bar])
    trainer.remove_callback(PrinterCallback)
    checkpoint = last_checkpoint(out) if resume else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - start
    # By the Trainer, which puts together what FSDP has spread over the processes.
    trainer.save_model(str(out))
    (out / TRAINING_ARGS_NAME).unlink(missing_ok=True)
    steps = trainer.state.global_step
    tokens = (steps - bar.first_step) * bar.tokens_a_step
    log = [
        (int(entry["step"]), float(entry["loss"]))
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    return Trained(steps, seconds, tokens / max(seconds, 1e-9), log)


def last_checkpoint(out: Path) -> Path | None:
    """The newest whole state in `out`: the Trainer writes trainer_state.json last."""
    whole = []
    for folder in out.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        try:
            state = json.loads((folder / "trainer_state.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        whole.append((int(state["global_step"]), folder))
    return max(whole)[1] if whole else None


def remove_checkpoints(out: Path) -> None:
    """What is no longer needed when the model is saved."""
    for folder in out.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(folder)


def _arguments(out: Path, recipe: Recipe, processes: int, rows: int) -> TrainingArguments:
    if recipe.batch_size % processes:
        raise ValueError(
            f"batch_size={recipe.batch_size}: does not divide among {processes} processes"
        )
    steps = recipe.max_steps or max(1, round(recipe.epochs * rows / recipe.batch_size))
    return TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=recipe.batch_size // processes,
        learning_rate=recipe.learning_rate,
        max_steps=steps,
        warmup_steps=max(1, steps // 20),
        lr_scheduler_type="cosine",
        weight_decay=recipe.weight_decay,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        bf16=recipe.bf16,
        activation_checkpointing=recipe.activation_checkpointing,
        save_strategy="no" if recipe.save_steps is None else "steps",
        save_steps=recipe.save_steps or 1,
        save_total_limit=2,
        logging_steps=max(1, min(50, steps // 10)),
        seed=recipe.seed,
        use_cpu=not torch.cuda.is_available(),
        dataloader_drop_last=True,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        report_to="none",
    )


class _Trainer(Trainer):
    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Linear maps alone: rates, positions around one and norms are not drawn to zero."""
        return [
            f"{name}.weight" for name, module in model.named_modules() if type(module) is nn.Linear
        ]


class _Bar(TrainerCallback):
    """A progress bar on standard error, and the step at which this call began."""

    def __init__(self, tokens_a_step: int, shown: bool) -> None:
        self.tokens_a_step = tokens_a_step
        self.first_step = 0
        columns = ("{task.description}", BarColumn(), "{task.fields[state]}", TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not shown)
        self.task = self.bar.add_task("training", total=None, state="")
        self.loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first_step = state.global_step
        self.began = time.perf_counter()
        self.bar.update(self.task, total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.loss = f"loss {float(logs['loss']):.3f}  "

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        tokens = (state.global_step - self.first_step) * self.tokens_a_step
        speed = tokens / max(time.perf_counter() - self.began, 1e-9)
        told = f"step {state.global_step}/{state.max_steps}  {self.loss}{speed:,.0f} tokens/s"
        self.bar.update(self.task, completed=state.global_step, state=told)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.stop()
