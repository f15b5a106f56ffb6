"""When the cool-down begins and when the time is over; tests/language/test_trainer.py trains."""

from __future__ import annotations

import pytest

from hyperagg.language.time_limit import TimeLimit


def steps_of(limit, max_steps, seconds_per_step=1.0, first=0):
    """The factors of the steps that are made, as a training makes them."""
    factors = []
    for number in range(1, max_steps - first + 1):
        factors.append(limit.factor)
        limit.update(
            number * seconds_per_step, num_steps=number, step=first + number, max_steps=max_steps
        )
        if limit.is_over:
            break
    return factors


def test_the_last_fifth_of_the_time_is_a_cool_down():
    limit = TimeLimit(50)
    factors = steps_of(limit, 1000)
    assert limit.cooldown_step == 40
    assert factors == pytest.approx([1.0] * 41 + [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_a_training_that_ends_in_time_has_no_cool_down():
    for time in (50, 49.9, 1000):
        limit = TimeLimit(time)
        assert steps_of(limit, 49) == [1.0] * 49
        assert limit.cooldown_step is None and not limit.is_over


def test_steps_before_a_resumed_training_do_not_count():
    limit = TimeLimit(50)
    assert len(steps_of(limit, 1000, first=900)) == 50
    assert limit.cooldown_step == 940


def test_no_step_ends_after_the_limit():
    limit = TimeLimit(10)
    assert len(steps_of(limit, 1000, seconds_per_step=3)) == 3
    assert limit.cooldown_step is None  # the whole cool-down would be shorter than a step
    limit = TimeLimit(10)
    assert len(steps_of(limit, 1000, seconds_per_step=30)) == 1  # one is made in any case


def test_a_training_that_becomes_slow_cools_down_late():
    limit = TimeLimit(100)
    for number in range(1, 91):  # it would need 95 s
        limit.update(number, num_steps=number, step=number, max_steps=95)
    assert limit.cooldown_step is None
    limit.update(96, num_steps=91, step=91, max_steps=95)
    assert limit.cooldown_step == 91 and limit.factor == 1
    limit.update(98, num_steps=92, step=92, max_steps=95)
    assert limit.factor == 0.5 and not limit.is_over
