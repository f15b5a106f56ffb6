"""Training of language models with the Trainer of transformers."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ContextDecorator, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hyperagg._common.atomic import apply_umask, atomic_folder, atomic_write, name_write_errors
from hyperagg._common.checkpoint import (
    START_AGAIN,
    check_same_run,
    check_space,
    digest_arrays,
)
from hyperagg._common.interrupt import DeferredInterrupt, deferred_interrupt
from hyperagg._common.progress import progress_bar
from hyperagg._common.tensors import digest_texts
from hyperagg._common.torch_random import preserve_random_state
from hyperagg.language.packing import PackedDataset
from hyperagg.language.time_limit import TimeLimit

__all__ = [
    "TrainingConfig",
    "TrainingResult",
    "check_checkpoints",
    "find_last_checkpoint",
    "remove_checkpoints",
    "train_model",
]

_CHECKPOINTS = "checkpoints"
_RUN = "run.json"  # marks the folder of the checkpoints as ours, and says what they belong to
_MODEL = "model.json"  # of which step the model is that a time limit has saved
_WEIGHT_FILES = ("model-*-of-*.safetensors", "model.safetensors", "model.safetensors.index.json")
# All that the Trainer writes into a checkpoint, also with FSDP, and with the code of the model.
# Other files there are those of the user.
_CHECKPOINT_FILES = (
    *("trainer_state.json", "config.json", "generation_config.json", TRAINING_ARGS_NAME),
    *(*_WEIGHT_FILES, ".tmp*", "pytorch_model_fsdp*", "optimizer.pt", "optimizer.bin"),
    *("optimizer_[0-9]*", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_[0-9]*.pth"),
    *(file.name for file in Path(__file__).parent.glob("*.py")),
)
_MAX_CHECKPOINTS = 2
_clock = time.monotonic  # a name of its own, which tests replace


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
        time_limit: seconds for the steps of a call of `train_model` (default: None, no limit). The
            first step, which may compile kernels, counts as one of the length of the second. If
            they do not suffice, the learning rate falls to zero in the last fifth of them; the last
            checkpoint is of the step before that, from which a training can be resumed as if there
            had been no limit. The weights then depend on the speed of the machine.

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
    time_limit: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "save_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: expected an integer >= 1")
        for name in ("learning_rate", "epochs"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}={value}: expected a finite number > 0")
        if self.time_limit is not None and not 0 < self.time_limit < float("inf"):
            raise ValueError(f"time_limit={self.time_limit}: expected a finite number > 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay={self.weight_decay}: expected a finite number >= 0")


@dataclass(frozen=True)
class TrainingResult:
    """Hold what `train_model` did.

    Args:
        steps: number of optimizer steps that the weights have had, over all calls.
        max_steps: number of steps of the schedule; more than `steps` if the time was over.
        cooldown_steps: how many of `steps` followed the last checkpoint because the time was
            nearly over, at a falling learning rate. A resumed training repeats them.
        kept_steps: number of steps of the model in the folder if it is still that of an earlier
            call, because this one was stopped by its time limit before it had as many, or before
            its learning rate fell; None if the model of this call was saved.
        seconds: wall-clock time of the last call.
        tokens_per_second: tokens per second of the last call, over all processes.
        loss: pairs (step, mean loss since the previous pair).
    """

    steps: int
    max_steps: int
    cooldown_steps: int
    seconds: float
    tokens_per_second: float
    loss: list[tuple[int, float]]
    kept_steps: int | None = None

    @property
    def is_complete(self) -> bool:
        """Return whether all steps of the schedule were made."""
        return self.steps == self.max_steps

    @property
    def resume_step(self) -> int:
        """Return the step of the last checkpoint of a training that is not complete."""
        return self.steps - self.cooldown_steps


class _OneAtATime(ContextDecorator):
    """Accelerate keeps the state of a training in singletons, which another Trainer resets."""

    _lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


@_OneAtATime()
def train_model(
    model: PreTrainedModel,
    dataset: PackedDataset,
    output_dir: Path,
    config: TrainingConfig = TrainingConfig(),
    *,
    tokenizer: PreTrainedTokenizerFast | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> TrainingResult:
    """Train a causal language model on packed rows, in place, and save it.

    A training that its time limit stops does not replace a better model that an earlier call of it
    has saved: one of more steps, or the only one of the two whose learning rate fell.
    Runs in one process, or in each of those that `torchrun` or `accelerate launch` starts (DDP,
    or FSDP if accelerate is configured for it).

    Args:
        model: a model of this package, or any causal language model of transformers that accepts
            packed documents by `position_ids`.
        dataset: the rows, from `pack`.
        output_dir: the folder to save the model in. Its subfolder "checkpoints" holds the
            checkpoints until `remove_checkpoints` is called, after all that belongs to the model is
            saved.
        config: the training configuration.
        tokenizer: what made the rows; it is saved with the model (default: it is not saved).
        resume: whether to continue from the last complete checkpoint, if there is one (default:
            False). A checkpoint of other rows, another tokenizer, model or configuration is
            refused.
        progress: whether to show a progress bar; None (default) shows it in a terminal and in a
            notebook.

    Returns:
        A `TrainingResult`.

    Raises:
        ValueError: if `batch_size` is not a multiple of the number of processes, or a checkpoint
            belongs to another run, or something else is called "checkpoints" in `output_dir`.
        KeyboardInterrupt: after Ctrl-C, once the step has ended and a checkpoint is written. A
            second Ctrl-C interrupts at once.
        OSError: if the disk is full. The folder is as it was, and the last checkpoint is complete.

    Numerics: the same seed, data and options give the same weights, also if training is
        interrupted and resumed, and beside other work in the process. Trainings in several threads
        of a process take turns.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    folder = check_checkpoints(output_dir)
    arguments = _training_arguments(folder, config, num_processes, len(dataset))
    enabled = progress if arguments.process_index == 0 else False
    checkpoint = find_last_checkpoint(output_dir) if resume else None
    if checkpoint is None and config.save_steps is not None:
        # The parameters, the state of AdamW, and the model.
        check_space(folder, 4 * sum(p.nbytes for p in model.parameters()))
    identity = _identity(model, dataset, config, tokenizer)
    if checkpoint is not None:
        check_same_run(folder, _read_run(folder), identity)
    elif arguments.process_index == 0:
        remove_checkpoints(output_dir)
        if config.save_steps is not None:
            _write_json(folder / _RUN, identity)
    earlier = None if checkpoint is None else _read_model(output_dir)
    time_limit = None if config.time_limit is None else TimeLimit(config.time_limit)
    start = time.perf_counter()
    with (
        preserve_random_state(),  # the Trainer sets it
        progress_bar("training", enabled) as update,
        deferred_interrupt() as interrupted,
        name_write_errors(folder),
    ):
        tokens_per_step = config.batch_size * dataset.input_ids.shape[1]
        callback = _ProgressCallback(update, tokens_per_step, time_limit)
        trainer = _Trainer(model=model, args=arguments, train_dataset=dataset, callbacks=[callback])
        trainer.remove_callback(PrinterCallback)
        saves = config.save_steps is not None
        stop = _StopCallback(interrupted, trainer.accelerator, saves, time_limit)
        trainer.add_callback(stop)
        with suppress(_Complete):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        interrupted.raise_()  # also if it came after the last step; the checkpoint is there
        if stop.is_interrupted:
            raise KeyboardInterrupt  # the signal has reached another process
    seconds = time.perf_counter() - start
    steps = trainer.state.global_step
    num_tokens = (steps - callback.first_step) * tokens_per_step
    loss = [
        (int(entry["step"]), float(entry["loss"]))
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    cooldown = None if time_limit is None else time_limit.cooldown_step
    result = TrainingResult(
        steps=steps,
        max_steps=arguments.max_steps,
        cooldown_steps=0 if cooldown is None else steps - cooldown,
        seconds=seconds,
        tokens_per_second=num_tokens / max(seconds, 1e-9),
        loss=loss,
    )
    if earlier is not None and earlier.is_better_than(result):
        return replace(result, kept_steps=earlier.steps)
    _save(trainer, output_dir, tokenizer)
    if trainer.is_world_process_zero() and saves and not result.is_complete:
        _write_json(folder / _MODEL, asdict(_SavedModel(result.steps, result.cooldown_steps)))
    return result


def _save(trainer: Trainer, output_dir: Path, tokenizer: PreTrainedTokenizerFast | None) -> None:
    """Replace the model in a folder by that of a trainer, at once."""
    with atomic_folder(output_dir, last="config.json") as draft:
        # The Trainer gathers what FSDP has distributed over the processes.
        trainer.save_model(str(draft))
        (draft / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        if trainer.is_world_process_zero():
            if tokenizer is not None:
                tokenizer.save_pretrained(draft)
            apply_umask(draft, "*.safetensors")
        saved = {file.name for file in draft.iterdir()}
    if trainer.is_world_process_zero():
        for pattern in _WEIGHT_FILES:  # of an earlier model, in more or fewer files
            for file in output_dir.glob(pattern):
                if file.name not in saved:
                    file.unlink()


def check_checkpoints(output_dir: Path) -> Path:
    """Return the folder of the checkpoints of a training into `output_dir`.

    Raises:
        ValueError: if there is something of that name that no training has made, or the name of
            `output_dir` is not UTF-8, as the libraries that write the model expect.
    """
    try:
        str(output_dir.resolve()).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{output_dir}: expected a folder whose name is UTF-8 for a language model"
        ) from error
    folder = output_dir / _CHECKPOINTS
    # Another process of this training may be writing the file that marks the folder.
    is_own = (folder / _RUN).is_file() or not any(folder.glob("[!.]*"))
    if folder.exists() and not (folder.is_dir() and is_own):
        raise ValueError(
            f"{folder}: is not of a training, which would write its checkpoints there; move it, or "
            "give another folder for the model"
        )
    return folder


def find_last_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest complete checkpoint of the training into a folder, or None.

    A checkpoint is complete if its trainer_state.json, which the Trainer writes last, can be read.
    """
    complete = []
    for checkpoint in _own_checkpoints(output_dir):
        try:
            state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        complete.append((int(state["global_step"]), checkpoint))
    return max(complete)[1] if complete else None


def remove_checkpoints(output_dir: Path) -> None:
    """Remove the checkpoints of the training into a folder, and nothing else.

    They are not needed once the model is saved.
    """
    for checkpoint in _own_checkpoints(output_dir):
        _remove_checkpoint(checkpoint)
    folder = output_dir / _CHECKPOINTS
    (folder / _MODEL).unlink(missing_ok=True)
    (folder / _RUN).unlink(missing_ok=True)
    with suppress(OSError):  # it has never been made, or holds something of the user's
        folder.rmdir()


def _remove_checkpoint(checkpoint: Path) -> None:
    """Remove what the Trainer has written, and the folder if there is nothing else in it."""
    # Without its first file, the checkpoint is none.
    for pattern in _CHECKPOINT_FILES:
        for path in checkpoint.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    with suppress(OSError):  # it holds something of the user's
        checkpoint.rmdir()


def _own_checkpoints(output_dir: Path) -> list[Path]:
    """The subfolders that the Trainer has made in a folder that a training has marked, in order."""
    folder = output_dir / _CHECKPOINTS
    if not (folder / _RUN).is_file():
        return []
    name = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-\d+")
    found = [
        path
        for path in folder.iterdir()
        if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    ]
    return sorted(found, key=lambda path: int(path.name.rsplit("-", 1)[1]))


def _identity(
    model: PreTrainedModel,
    dataset: PackedDataset,
    config: TrainingConfig,
    tokenizer: PreTrainedTokenizerFast | None,
) -> dict[str, Any]:
    """What must not change when a run is resumed."""
    settings = asdict(config)
    del settings["save_steps"], settings["time_limit"]
    described = model.config.to_dict()
    for name in ("transformers_version", "_name_or_path"):
        described.pop(name, None)
    return {
        "data": digest_arrays([dataset.input_ids, dataset.position_ids]),
        "sequence_length": dataset.input_ids.shape[1],
        "tokenizer": (
            None if tokenizer is None else digest_texts([tokenizer.backend_tokenizer.to_str()])
        ),
        "model": described,
        **settings,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _read_run(folder: Path) -> Any:
    path = folder / _RUN
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read; {START_AGAIN}") from error


@dataclass(frozen=True)
class _SavedModel:
    """The steps of a model that was saved before the training was complete."""

    steps: int
    cooldown_steps: int

    def is_better_than(self, other: TrainingResult) -> bool:
        """Whether it is to be kept instead of that of a later call."""
        if other.is_complete:
            return False
        alone_fell = self.cooldown_steps > 0 and other.cooldown_steps == 0
        return other.steps <= self.steps or alone_fell


def _read_model(output_dir: Path) -> _SavedModel | None:
    """What an earlier call of the training into a folder has saved there; None: nothing."""
    if not (output_dir / "config.json").is_file():
        return None
    try:
        found = json.loads((output_dir / _CHECKPOINTS / _MODEL).read_text("utf-8"))
        return _SavedModel(int(found["steps"]), int(found["cooldown_steps"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _training_arguments(
    folder: Path, config: TrainingConfig, num_processes: int, num_rows: int
) -> TrainingArguments:
    if config.batch_size % num_processes:
        raise ValueError(
            f"batch_size={config.batch_size}: expected a multiple of the number of processes, "
            f"{num_processes}"
        )
    steps = config.max_steps or max(1, round(config.epochs * num_rows / config.batch_size))
    return TrainingArguments(
        output_dir=str(folder),
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
        data_seed=config.seed,  # or the order of the rows follows the random state of the process
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


class _Complete(Exception):
    """The checkpoint to resume from is that of the last step."""


class _StepClock:
    """Measures the time of steps. The first one may compile kernels, which takes as long as
    thousands of steps of a small model, so it counts as one of the length of the second."""

    def __init__(self) -> None:
        self.start = self.first_ended = _clock()

    def elapsed(self, num_steps: int) -> float:
        """Return the seconds since the training began, at the end of step `num_steps`."""
        now = _clock()
        if num_steps == 1:
            self.first_ended = now
        elif num_steps == 2:
            self.start = max(self.start, 2 * self.first_ended - now)
        return now - self.start


class _StopCallback(TrainerCallback):
    """Stop after the step in which a signal arrives in any process or the time is over, with a
    checkpoint."""

    def __init__(
        self,
        interrupted: DeferredInterrupt,
        accelerator: Accelerator,
        save: bool,
        time_limit: TimeLimit | None,
    ) -> None:
        self.interrupted, self.accelerator, self.save = interrupted, accelerator, save
        self.time_limit = time_limit
        self.first_step = 0
        self.clock = _StepClock()
        self.is_interrupted = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            raise _Complete  # or the Trainer would make another step
        self.first_step = state.global_step
        self.clock = _StepClock()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.time_limit is not None and self.time_limit.factor < 1:
            for group in kwargs["optimizer"].param_groups:  # the scheduler sets the rate anew
                group["lr"] *= self.time_limit.factor

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        limit = self.time_limit
        if limit is not None:
            self._measure(limit, state)
            if limit.cooldown_step is not None:
                # What follows the cool-down's first step is not of the run that can be resumed.
                control.should_save = self.save and limit.cooldown_step == state.global_step
            elif limit.is_over:
                control.should_save = self.save
            if limit.is_over:
                control.should_training_stop = True
        if self.interrupted.is_set():
            self.accelerator.set_trigger()
        if self.accelerator.check_trigger():
            self.is_interrupted = control.should_training_stop = True
            if limit is None or limit.cooldown_step is None:
                control.should_save = control.should_save or self.save

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The Trainer's own limit would remove all that is in a folder of such a name.
        if args.should_save:
            for checkpoint in _own_checkpoints(Path(args.output_dir).parent)[:-_MAX_CHECKPOINTS]:
                _remove_checkpoint(checkpoint)

    def _measure(self, limit: TimeLimit, state: Any) -> None:
        num_steps = state.global_step - self.first_step
        seconds = self.clock.elapsed(num_steps)
        if num_steps == 1 < state.max_steps - self.first_step:
            return  # how long a step takes is not known yet
        elapsed = torch.tensor(seconds, device=self.accelerator.device)
        # The mean over the processes, so that all of them decide alike.
        limit.update(
            float(self.accelerator.reduce(elapsed, "mean")),
            num_steps=num_steps,
            step=state.global_step,
            max_steps=state.max_steps,
        )


class _ProgressCallback(TrainerCallback):
    """Update a progress bar, and keep the step at which this call began."""

    def __init__(
        self,
        update: Callable[[float, str], None],
        tokens_per_step: int,
        time_limit: TimeLimit | None,
    ) -> None:
        self.update = update
        self.tokens_per_step = tokens_per_step
        self.time_limit = time_limit
        self.first_step = 0
        self.clock = _StepClock()
        self.loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.first_step = state.global_step
        self.clock = _StepClock()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.loss = f"loss {float(logs['loss']):.3f}  "

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        num_steps = state.global_step - self.first_step
        elapsed = max(self.clock.elapsed(num_steps), 1e-9)
        speed = num_steps * self.tokens_per_step / elapsed
        left = (state.max_steps - state.global_step) * elapsed / num_steps
        if self.time_limit is not None:
            left = min(left, max(0.0, self.time_limit.seconds - elapsed))
        # Of what a resumed training has left, in time, so that the time that is left is right.
        before = self.first_step / state.max_steps
        self.update(
            before + (1 - before) * elapsed / (elapsed + left),
            f"step {state.global_step}/{state.max_steps}  {self.loss}{speed:,.0f} tokens/s",
        )
