"""The training loop: resuming, Ctrl-C, best weights, running mean, process-wide state."""

from __future__ import annotations

import os
import signal
import threading

import pytest

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")

from accelerate.state import AcceleratorState, GradientState, PartialState  # noqa: E402
from torch import nn  # noqa: E402

from hyperagg._common import torch_trainer  # noqa: E402
from hyperagg._common.torch_trainer import (  # noqa: E402
    TorchTrainer,
    isolated_accelerator,
    warmup_cosine,
)

pytestmark = pytest.mark.torch
STEPS, PER_EPOCH = 20, 8


class Model(nn.Module):
    """A dense and a sparse part, with an optimizer for each, and a buffer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(50, 4, sparse=True)
        self.norm = nn.BatchNorm1d(4)
        self.linear = nn.Linear(4, 1)

    def forward(self, ids):
        return self.linear(self.norm(self.embedding(ids)))[:, 0]


def loss(model, step, part):
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(50, (16,), generator=generator)
    return nn.functional.mse_loss(model(ids[part]), ids[part] / 25 - 1), len(ids)


def train(model=None, resume=False, loss=loss, learning_rate=1e-2, **options):
    model = model or Model()
    dense = [*model.norm.parameters(), *model.linear.parameters()]
    optimizers = [
        torch.optim.AdamW(dense, lr=learning_rate),
        torch.optim.Adagrad([model.embedding.weight], lr=0.1),
    ]
    defaults = dict(steps=STEPS, steps_per_epoch=PER_EPOCH, identity={"seed": 0}, clip=dense)
    defaults |= dict(schedule=warmup_cosine(STEPS, 2))
    with isolated_accelerator() as accelerator:
        trainer = TorchTrainer(model, optimizers, loss, accelerator, **defaults | options)
        return model, trainer.run(resume)


def assert_equal(a, b):
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


def stop_after(step, action):
    def callback(trainer):
        if trainer.step == step:
            action()

    return callback


def raise_interrupt():
    raise KeyboardInterrupt


def scores():
    """A new validation function, whose second score is the best."""
    values = iter([0.1, 0.5, 0.3])
    return lambda: next(values)


@pytest.mark.parametrize("stop", [3, 8, 13])
@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.9}, {"bf16": True}])
def test_a_run_that_was_stopped_resumes_to_the_same_weights(tmp_path, stop, options):
    whole, history = train(**options)
    state = dict(checkpoint=tmp_path / "state.safetensors", checkpoint_steps=1)
    with pytest.raises(KeyboardInterrupt):
        train(**options, **state, callbacks=[stop_after(stop, raise_interrupt)])
    resumed, resumed_history = train(**options, **state, resume=True)
    assert_equal(whole, resumed)
    assert resumed_history.loss == history.loss


def test_best_weights_survive_a_stop(tmp_path):
    whole, _ = train(validate=scores())
    state = dict(checkpoint=tmp_path / "state.safetensors", checkpoint_steps=1)
    stop = stop_after(2 * PER_EPOCH + 2, raise_interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(validate=scores(), **state, callbacks=[stop])
    resumed, history = train(validate=lambda: 0.3, **state, resume=True)
    assert_equal(whole, resumed)
    assert history.score == [0.1, 0.5, 0.3] and history.best_epoch == 1


@pytest.mark.parametrize("values", [[0.1, 0.5, 0.3], [(0.9, 0.1), (0.5, 0.5), (0.9, 0.3)]])
def test_the_model_gets_the_weights_of_the_best_epoch(values):
    best = {}

    def keep(trainer):
        if trainer.step == 2 * PER_EPOCH:
            best.update({k: v.clone() for k, v in trainer.model.state_dict().items()})

    model, history = train(validate=iter(values).__next__, callbacks=[keep])
    assert history.best_epoch == 1 and len(history.loss) == 3
    assert history.criterion == [0.1, 0.5, 0.3] and len(history.score) == 3
    for name, value in model.state_dict().items():
        assert torch.equal(value, best[name])
    assert not model.training


def test_a_run_ends_early_without_better_scores_and_resumes_to_that(tmp_path):
    values = [0.1, 0.5, 0.3, 0.4, 0.9]
    many = dict(steps=5 * PER_EPOCH, schedule=lambda step: 1.0)
    whole, history = train(validate=iter(values).__next__, patience=2, **many)
    assert history.score == [0.1, 0.5, 0.3, 0.4] and history.best_epoch == 1
    best, _ = train(steps=2 * PER_EPOCH, schedule=lambda step: 1.0)
    assert_equal(whole, best)
    state = dict(checkpoint=tmp_path / "state.safetensors", checkpoint_steps=1)
    with pytest.raises(KeyboardInterrupt):
        stop = stop_after(3 * PER_EPOCH, raise_interrupt)
        train(validate=iter(values).__next__, patience=2, **many, **state, callbacks=[stop])
    # The checkpoint is that of the step before the interruption, in the third epoch.
    rest = dict(validate=iter(values[2:]).__next__, patience=2, **many, **state)
    resumed, again = train(**rest, resume=True)
    assert_equal(whole, resumed)
    assert again.score == history.score
    # Without patience the run goes on to the best score.
    _, history = train(validate=iter(values).__next__, **many)
    assert history.best_epoch == 4


def test_the_running_mean_replaces_the_parameters():
    means = []

    def average(trainer):
        decay = min(0.9, trainer.step / (9 + trainer.step))
        weight = trainer.model.linear.weight.detach()
        means.append(means[-1].lerp(weight, 1 - decay))

    model = Model()
    means.append(model.linear.weight.detach().clone())
    train(model, ema_decay=0.9, callbacks=[average])
    torch.testing.assert_close(model.linear.weight.detach(), means[-1])


def test_ctrl_c_writes_a_checkpoint_after_the_step(tmp_path):
    whole, _ = train()
    state = dict(checkpoint=tmp_path / "state.safetensors")

    def interrupted_loss(model, step, part):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(model, step, part)

    steps, before = [], signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(
            loss=interrupted_loss, callbacks=[lambda trainer: steps.append(trainer.step)], **state
        )
    assert steps[-1] == 6 and signal.getsignal(signal.SIGINT) is before
    resumed, _ = train(**state, resume=True, callbacks=[lambda t: steps.append(t.step)])
    assert steps[6] == 7
    assert_equal(whole, resumed)


def test_checkpoints_are_written_after_some_seconds(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    monkeypatch.setattr(torch_trainer, "CHECKPOINT_SECONDS", 0.0)
    train(checkpoint=path)
    assert path.exists()
    path.unlink()
    monkeypatch.setattr(torch_trainer, "CHECKPOINT_SECONDS", float("inf"))
    train(checkpoint=path)
    assert not path.exists()


def test_checkpoints_of_other_runs_and_other_files_are_refused(tmp_path):
    state = dict(checkpoint=tmp_path / "state.safetensors", checkpoint_steps=1)
    train(**state)
    with pytest.raises(ValueError, match="arguments: seed 0 there and 1 here; repeat"):
        train(**state, identity={"seed": 1}, resume=True)
    state["checkpoint"].write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"state\.safetensors: .* checkpoint"):
        train(**state, resume=True)


def test_a_loss_that_is_not_finite_is_refused_before_the_step():
    model, reference = Model(), Model()
    message = "learning_rate=0.01: the loss is nan after 0 steps; give a smaller learning rate"
    with pytest.raises(ValueError, match=message):
        train(model, loss=lambda model, step, part: (model.linear.weight.sum() * float("nan"), 16))
    assert torch.equal(model.linear.weight, reference.linear.weight)


def test_parameters_in_half_precision_are_refused():
    with pytest.raises(ValueError, match="model: expected parameters in float32 or float64"):
        train(Model().bfloat16())


def test_the_schedule_rises_and_falls():
    factors = [warmup_cosine(100, 5)(step) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5] == 1 and factors == sorted(factors[:5]) + sorted(factors[5:], reverse=True)
    assert 0 < factors[-1] < 1e-3


@pytest.fixture
def no_accelerator():
    """The state of a process that has not used Accelerate yet, before and after the test."""
    singletons = (PartialState, AcceleratorState, GradientState)
    states = [dict(each._shared_state) for each in singletons]
    for each in singletons:
        each._shared_state.clear()
    yield
    for each, state in zip(singletons, states):
        each._shared_state.clear()
        each._shared_state.update(state)


def test_a_run_leaves_no_process_wide_state(no_accelerator):
    model = Model()
    random = torch.get_rng_state()
    train(model, bf16=True)
    assert torch.equal(torch.get_rng_state(), random)
    assert not AcceleratorState._shared_state and not PartialState._shared_state
    assert accelerate.Accelerator(mixed_precision="bf16").mixed_precision == "bf16"


def test_a_run_ignores_and_keeps_the_accelerator_of_the_caller(no_accelerator):
    expected, _ = train()
    outer = accelerate.Accelerator(mixed_precision="bf16", cpu=True)
    model, _ = train()
    assert_equal(expected, model)
    assert outer.mixed_precision == "bf16" and outer.state.mixed_precision == "bf16"
    assert AcceleratorState().mixed_precision == "bf16"


def test_runs_in_several_threads_do_not_disturb_each_other(no_accelerator):
    expected = {bf16: train(bf16=bf16)[0] for bf16 in (False, True)}
    models = {bf16: Model() for bf16 in (False, True)}
    barrier = threading.Barrier(2, timeout=60)

    def run(bf16):
        # The second run begins within the first and ends after it.
        wait = stop_after(5 if bf16 else 15, barrier.wait)
        train(models[bf16], bf16=bf16, callbacks=[wait])

    threads = [threading.Thread(target=run, args=(bf16,)) for bf16 in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not AcceleratorState._shared_state
    for bf16 in (False, True):
        assert_equal(expected[bf16], models[bf16])


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows():
    def uneven_loss(model, step, part):
        return 0 * model.linear.weight.sum() + step, 1 + step

    _, history = train(loss=uneven_loss, steps=3, steps_per_epoch=2)
    assert history.loss == [2 / 3, 2.0]
