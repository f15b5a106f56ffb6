"""Ends a training in time, with a learning rate that has decayed.

A training that is stopped in the middle of its schedule has the weights of a high learning rate,
which are worse than those of a shorter training whose rate has decayed to zero. So the last fifth
of the time is a cool-down: the rate of the schedule is multiplied by

    f = time that is left / length of the cool-down,

which falls from 1 to about 0 (Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond
Fixed Training Durations", decay for a fifth of the steps). A training that will complete its
schedule in time has no cool-down.
"""

from __future__ import annotations

__all__ = ["COOLDOWN", "TimeLimit"]

COOLDOWN = 0.2  # of the time


class TimeLimit:
    """Decides after every step whether the cool-down begins and whether the time is over.

    Args:
        seconds: the time for all steps.

    Attributes:
        factor: what the learning rate of the next step is multiplied by.
        cooldown_step: the step after which the cool-down began; None before.
        is_over: whether the next step would not end in time.

    Example:
        >>> limit = TimeLimit(100.0)
        >>> limit.update(80.0, num_steps=8, step=8, max_steps=50)
        >>> limit.update(90.0, num_steps=9, step=9, max_steps=50)
        >>> limit.factor, limit.cooldown_step, limit.is_over
        (0.5, 8, False)
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.factor = 1.0
        self.cooldown_step: int | None = None
        self.is_over = False
        self._length = 0.0  # of the cool-down, in seconds

    def update(self, elapsed: float, *, num_steps: int, step: int, max_steps: int) -> None:
        """Note that a step has ended.

        Args:
            elapsed: seconds since the training began.
            num_steps: number of steps in that time.
            step: index of the last one in the schedule, from 1.
            max_steps: number of steps of the schedule.
        """
        left = self.seconds - elapsed
        per_step = elapsed / num_steps
        remaining = max_steps - step
        self.is_over = remaining > 0 and left < per_step
        if self.cooldown_step is None:
            is_late = left <= COOLDOWN * self.seconds and remaining * per_step > left
            if is_late and not self.is_over:
                self.cooldown_step, self._length = step, left
            return
        self.factor = max(0.0, left / self._length)
