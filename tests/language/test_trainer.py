"""Training in this process; tests/cli/test_lm.py interrupts it and runs it in two processes."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import Trainer

from hyperagg._common.torch_random import seeded
from hyperagg.language import HyperAggConfig, HyperAggForCausalLM, trainer
from hyperagg.language.packing import pack
from hyperagg.language.tokenizer import train_tokenizer
from hyperagg.language.trainer import (
    TrainingConfig,
    find_last_checkpoint,
    remove_checkpoints,
    train_model,
)

DATASET = pack([[1 + (i + k) % 7 for k in range(20)] for i in range(60)], 0, 24)


def make(layer_types="gated"):
    torch.manual_seed(0)
    return HyperAggForCausalLM(
        HyperAggConfig(
            vocab_size=8,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            layer_types=layer_types,
        )
    )


@pytest.mark.parametrize(
    "layer_types", ["gated", "decay", ["gated_associative", "full_attention"]], ids=str
)
@pytest.mark.parametrize("options", [{}, dict(bf16=True, activation_checkpointing=True)], ids=str)
@pytest.mark.slow
def test_learns_a_pattern(layer_types, options, tmp_path):
    config = TrainingConfig(
        batch_size=8, learning_rate=0.02, max_steps=60, save_steps=None, **options
    )
    result = train_model(make(layer_types), DATASET, tmp_path, config, progress=False)
    # Every token is certain, except for the first of a document and its end.
    assert result.steps == 60 and result.loss[-1][1] < 0.4 < 1.5 < result.loss[0][1]
    assert (tmp_path / "model.safetensors").exists()
    assert not list(tmp_path.glob("*.bin"))


def test_weight_decay_applies_to_linear_maps_only(tmp_path):
    from hyperagg.language.trainer import _Trainer, _training_arguments

    model = make(["decay", "gated_associative"])
    arguments = _training_arguments(tmp_path, TrainingConfig(), 1, 10)
    trainer = _Trainer(model=model, args=arguments)
    decayed = set(trainer.get_decay_parameter_names(model))
    assert "model.layers.1.mixer.gated.recurrence.linear.weight" in decayed
    excluded = ("norm", "log_decay_rate", "bias", "convolution", "log_rate")
    assert not [name for name in decayed if any(part in name for part in excluded)]
    assert decayed <= {name for name, _ in model.named_parameters()} | {"lm_head.weight"}


def test_an_incomplete_checkpoint_is_skipped(tmp_path):
    for step, content in ((5, json.dumps({"global_step": 5})), (10, '{"global_'), (15, None)):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if content is not None:
            (folder / "trainer_state.json").write_text(content)
    assert find_last_checkpoint(tmp_path) is None  # these are not of a training
    (tmp_path / "checkpoints" / "run.json").write_text("{}")
    assert find_last_checkpoint(tmp_path) == tmp_path / "checkpoints" / "checkpoint-5"


def test_only_what_the_training_made_is_removed(tmp_path):
    """Folders of the user's may have the names of the Trainer's checkpoints."""
    own = [tmp_path / "checkpoint-1", tmp_path / "checkpoint-best", tmp_path / "checkpoint-900"]
    for folder in own:
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
    config = TrainingConfig(batch_size=8, max_steps=5, save_steps=1)
    train_model(make(), DATASET, tmp_path, config, progress=False)
    checkpoints = tmp_path / "checkpoints"
    names = {path.name for path in checkpoints.iterdir()}
    assert names == {"run.json", "checkpoint-4", "checkpoint-5"}
    (checkpoints / "notes").mkdir()
    remove_checkpoints(tmp_path)
    assert [path.name for path in checkpoints.iterdir()] == ["notes"]
    assert all((folder / "thesis.txt").exists() for folder in own)
    # A folder of that name that no training has marked is neither used nor removed.
    with pytest.raises(ValueError, match="checkpoints: is not of a training"):
        train_model(make(), DATASET, tmp_path, config, progress=False)


def interrupted(tmp_path, config, layer_types="gated"):
    """Train until Ctrl-C arrives in the forward pass of the fourth step."""
    model, calls = make(layer_types), []

    def forward(module, arguments):
        calls.append(module)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    model.register_forward_pre_hook(forward)
    with pytest.raises(KeyboardInterrupt):
        train_model(model, DATASET, tmp_path, config, progress=False)


@pytest.mark.parametrize("layer_types", ["gated", "gated_associative"])
def test_an_interruption_leaves_a_checkpoint_of_its_step(layer_types, tmp_path):
    config = TrainingConfig(batch_size=8, max_steps=9, save_steps=200)
    model, before = make(layer_types), torch.get_rng_state()
    train_model(model, DATASET, tmp_path / "whole", config, progress=False)
    assert torch.equal(torch.get_rng_state(), before)  # the Trainer sets it
    interrupted(tmp_path / "parts", config, layer_types)
    checkpoint = find_last_checkpoint(tmp_path / "parts")
    assert checkpoint is not None and checkpoint.name == "checkpoint-4"
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    train_model(make(layer_types), DATASET, tmp_path / "parts", config, resume=True, progress=False)
    whole, parts = (tmp_path / name / "model.safetensors" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_files_of_the_user_in_a_checkpoint_stay(tmp_path):
    config = TrainingConfig(batch_size=8, max_steps=9, save_steps=1)
    interrupted(tmp_path, config)
    checkpoints = tmp_path / "checkpoints"
    for name in ("checkpoint-3/thesis.txt", "checkpoint-3/runs/events", "checkpoint-70"):
        path = checkpoints / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work")
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_text("of another model")
    (checkpoints / "checkpoint-80").symlink_to(other)
    # All but the newest two are removed while it trains on.
    train_model(make(), DATASET, tmp_path, config, resume=True, progress=False)
    complete = {path.parent.name for path in checkpoints.glob("*/trainer_state.json")}
    assert complete == {"checkpoint-8", "checkpoint-9"}
    remove_checkpoints(tmp_path)
    left = {str(path.relative_to(checkpoints)) for path in checkpoints.rglob("*")}
    folders = {"checkpoint-3", "checkpoint-3/runs"}
    files = {"checkpoint-3/thesis.txt", "checkpoint-3/runs/events", "checkpoint-70"}
    assert left == folders | files | {"checkpoint-80"}
    assert (other / "model.safetensors").exists()


def test_resuming_after_the_last_step_makes_no_other(tmp_path):
    config = TrainingConfig(batch_size=8, max_steps=5, save_steps=2)
    result = train_model(make(), DATASET, tmp_path, config, progress=False)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").unlink()
    again = train_model(make(), DATASET, tmp_path, config, resume=True, progress=False)
    assert (again.steps, again.max_steps, again.loss) == (5, 5, result.loss)
    assert again.is_complete and again.tokens_per_second == 0
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert find_last_checkpoint(tmp_path).name == "checkpoint-5"


class Clock:
    """Every step takes one second, and compiling before the first one more; it stands still
    otherwise."""

    def __init__(self, model, compiling=0):
        self.seconds, self.compiling = 0, compiling
        model.register_forward_pre_hook(self.tick)

    def tick(self, module, arguments):
        self.seconds += 1 + self.compiling
        self.compiling = 0

    def __call__(self):
        return self.seconds


def limited(tmp_path, monkeypatch, seconds, **options):
    """Train up to 40 steps of one second each."""
    model, rates = make(), []
    monkeypatch.setattr(trainer, "_clock", Clock(model, options.pop("compiling", 0)))
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    resume = options.pop("resume", False)
    config = TrainingConfig(**dict(batch_size=8, max_steps=40) | options, time_limit=seconds)
    result = train_model(model, DATASET, tmp_path, config, resume=resume, progress=False)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return result, rates


def test_a_time_limit_saves_a_model_of_a_decayed_rate_and_a_checkpoint_before_it(
    tmp_path, monkeypatch
):
    _, whole = limited(tmp_path / "whole", monkeypatch, None)
    result, rates = limited(tmp_path / "parts", monkeypatch, 25, save_steps=3)
    assert (result.steps, result.max_steps, result.cooldown_steps) == (25, 40, 5)
    assert not result.is_complete and result.resume_step == 20
    assert (tmp_path / "parts" / "model.safetensors").exists()
    assert find_last_checkpoint(tmp_path / "parts").name == "checkpoint-20"
    # The schedule, and in the last fifth of the time less and less of it.
    assert rates[:21] == whole[:21]
    assert [a / b for a, b in zip(rates[21:], whole[21:25])] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    # Resumed twice, within the limit and without one, it is as if there had been no limit.
    result, rates = limited(tmp_path / "parts", monkeypatch, 10, save_steps=3, resume=True)
    assert (result.steps, result.resume_step) == (30, 28) and rates[:9] == whole[20:29]
    result, rates = limited(tmp_path / "parts", monkeypatch, None, save_steps=3, resume=True)
    assert (result.steps, result.cooldown_steps) == (40, 0) and rates == whole[28:]
    assert result.is_complete
    files = (tmp_path / name / "model.safetensors" for name in ("whole", "parts"))
    assert len({file.read_bytes() for file in files}) == 1


def test_a_shorter_limit_does_not_replace_a_better_model(tmp_path, monkeypatch):
    limited(tmp_path, monkeypatch, 25)  # the checkpoint is that of step 20
    weights = tmp_path / "model.safetensors"
    better = weights.read_bytes()
    result, _ = limited(tmp_path, monkeypatch, 3, resume=True)
    assert (result.steps, result.kept_steps) == (23, 25) and weights.read_bytes() == better
    # More steps, but at a high learning rate.
    result, _ = limited(tmp_path, monkeypatch, 3, resume=True)
    assert (result.steps, result.kept_steps) == (26, 25) and weights.read_bytes() == better
    result, _ = limited(tmp_path, monkeypatch, 10, resume=True)
    assert (result.steps, result.resume_step, result.kept_steps) == (36, 34, None)
    assert weights.read_bytes() != better
    result, _ = limited(tmp_path, monkeypatch, None, resume=True)
    assert result.is_complete and result.kept_steps is None
    # A model of the user's that is not of this training is not kept.
    remove_checkpoints(tmp_path)
    result, _ = limited(tmp_path, monkeypatch, 3)
    assert (result.steps, result.kept_steps) == (3, None)


def test_a_limit_that_suffices_changes_nothing(tmp_path, monkeypatch):
    for name, seconds in (("without", None), ("with", 40)):
        result, _ = limited(tmp_path / name, monkeypatch, seconds)
        assert (result.steps, result.cooldown_steps, result.is_complete) == (40, 0, True)
    files = (tmp_path / name / "model.safetensors" for name in ("without", "with"))
    assert len({file.read_bytes() for file in files}) == 1


def test_a_limit_shorter_than_a_step_makes_two(tmp_path, monkeypatch):
    result, _ = limited(tmp_path, monkeypatch, 0.5)
    assert (result.steps, result.cooldown_steps) == (2, 0)
    assert find_last_checkpoint(tmp_path).name == "checkpoint-2"
    result, _ = limited(tmp_path / "one", monkeypatch, 0.5, max_steps=1)
    assert result.steps == 1 and result.is_complete


def test_compiling_kernels_does_not_use_up_the_time(tmp_path, monkeypatch):
    result, _ = limited(tmp_path, monkeypatch, 25, compiling=60)
    assert (result.steps, result.cooldown_steps) == (25, 5)


def test_a_limit_without_checkpoints(tmp_path, monkeypatch):
    result, _ = limited(tmp_path, monkeypatch, 25, save_steps=None)
    assert (result.steps, result.cooldown_steps) == (25, 5)
    assert find_last_checkpoint(tmp_path) is None


def test_an_interruption_of_the_cool_down_keeps_the_checkpoint_before_it(tmp_path, monkeypatch):
    model, calls = make(), []
    monkeypatch.setattr(trainer, "_clock", Clock(model))

    def forward(module, arguments):
        calls.append(module)
        if len(calls) == 23:
            os.kill(os.getpid(), signal.SIGINT)

    model.register_forward_pre_hook(forward)
    config = TrainingConfig(batch_size=8, max_steps=40, time_limit=25)
    with pytest.raises(KeyboardInterrupt):
        train_model(model, DATASET, tmp_path, config, progress=False)
    assert len(calls) == 23
    assert find_last_checkpoint(tmp_path).name == "checkpoint-20"


def test_progress_is_that_of_the_time(tmp_path, monkeypatch):
    """The time that is left is computed from it, also of a resumed or limited training."""
    shown = []

    @contextmanager
    def bar(description, enabled):
        shown.clear()
        yield lambda fraction, status: shown.append((fraction, status))

    monkeypatch.setattr(trainer, "progress_bar", bar)
    limited(tmp_path, monkeypatch, 10)  # the checkpoint is that of step 8
    assert [fraction for fraction, _ in shown] == pytest.approx([k / 10 for k in range(1, 11)])
    assert shown[9][1].startswith("step 10/40  loss ") and shown[9][1].endswith(" tokens/s")
    limited(tmp_path, monkeypatch, 20, resume=True)  # up to step 28, from 24 on with a cool-down
    left = [0.8 * (1 - k / 20) for k in range(1, 21)]
    assert [1 - fraction for fraction, _ in shown] == pytest.approx(left)
    limited(tmp_path, monkeypatch, None, resume=True)
    assert [fraction for fraction, _ in shown] == pytest.approx([k / 40 for k in range(25, 41)])


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    config = TrainingConfig(batch_size=8, max_steps=6, save_steps=2)
    words = train_tokenizer(["one two"], "words", 8)
    others = train_tokenizer(["two one zero"], "words", 8)
    interrupted(tmp_path, config)
    other_rows = pack([[1 + (i + k) % 6 for k in range(20)] for i in range(60)], 0, 24)
    for dataset, changed, tokenizer, message in (
        (DATASET, {"seed": 1}, None, "arguments: seed 0 there and 1 here; repeat"),
        (DATASET, {"learning_rate": 0.01}, None, "arguments: learning_rate 0.004 there and 0.01"),
        (other_rows, {}, None, "arguments: data; repeat"),
        (DATASET, {}, words, "arguments: tokenizer not given there and given here"),
    ):
        with pytest.raises(ValueError, match=message):
            train_model(
                make(),
                dataset,
                tmp_path,
                replace(config, **changed),
                tokenizer=tokenizer,
                resume=True,
                progress=False,
            )
    assert words.get_vocab() != others.get_vocab()
    # How often checkpoints are written is free.
    changed = replace(config, save_steps=1)
    train_model(make(), DATASET, tmp_path, changed, resume=True, progress=False)


def test_trainings_in_threads_give_the_weights_of_one_after_the_other(tmp_path):
    """The Trainer sets the random state of the process, and Accelerate has singletons."""

    def fit(i):
        with seeded(i):
            model = HyperAggForCausalLM(make().config)
        config = TrainingConfig(batch_size=8, max_steps=8, save_steps=3, seed=i)
        train_model(model, DATASET, tmp_path / str(i), config, progress=False)
        return (tmp_path / str(i) / "model.safetensors").read_bytes()

    alone = [fit(i) for i in range(3)]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(fit, range(3))) == alone


def test_a_full_disk_leaves_the_old_model_whole(tmp_path, monkeypatch):
    config = TrainingConfig(batch_size=8, max_steps=2, save_steps=1)
    train_model(make(), DATASET, tmp_path, config, progress=False)
    remove_checkpoints(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = Trainer.save_model

    def fail(self, folder=None, _internal_call=False):
        if not _internal_call:  # of the model, not of a checkpoint
            Path(folder, "config.json").write_text("{")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save(self, folder, _internal_call)

    monkeypatch.setattr(Trainer, "save_model", fail)
    with pytest.raises(OSError, match="No space left on device") as error:
        train_model(make("decay"), DATASET, tmp_path, config, progress=False)
    assert error.value.filename == str(tmp_path)
    assert find_last_checkpoint(tmp_path) is not None
    remove_checkpoints(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_batch_that_the_processes_cannot_divide_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch_size=8: expected a multiple of the number of"):
        train_model(make(), DATASET, tmp_path, TrainingConfig())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(learning_rate=-1.0), "learning_rate=-1.0: expected a finite number > 0"),
        (dict(learning_rate=float("nan")), "learning_rate=nan: expected"),
        (dict(batch_size=0), "batch_size=0: expected an integer >= 1"),
        (dict(weight_decay=-0.1), "weight_decay=-0.1: expected a finite number >= 0"),
        (dict(time_limit=0.0), "time_limit=0.0: expected a finite number > 0"),
    ],
)
def test_invalid_configurations_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**arguments)
