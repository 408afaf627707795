"""What is the learning rate at a moment of training? A function of the epoch alone.

So a training that was killed and started again, or that another number of workers goes on with,
has the rates of one that ran through.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSchedule:
    """The paper's: constant between given epochs, and multiplied at each of them.

    Source:
        Sermanet et al. 2014, section 3.1.
    """

    rate: float = 0.05
    """Rate of the first epoch, above 0."""
    factor: float = 0.5
    """By which the rate is multiplied, above 0 and at most 1."""
    drop_epochs: tuple[float, ...] = (30.0, 50.0, 60.0, 70.0, 80.0)
    """After how many epochs each time, above 0 and growing."""

    def __post_init__(self) -> None:
        _check("rate", self.rate, "above 0 and finite", is_inside=0 < self.rate < math.inf)
        _check("factor", self.factor, "above 0 and at most 1", is_inside=0 < self.factor <= 1)
        ends = (0.0, *self.drop_epochs, math.inf)
        is_growing = all(first < second for first, second in pairwise(ends))
        _check("drop_epochs", self.drop_epochs, "above 0 and growing", is_inside=is_growing)

    def rate_at(self, epoch: float) -> float:
        """Compute the learning rate.

        Args:
            epoch: Epochs done, parts of one too, at least 0: count the step that is about to be
                taken as done.

        Returns:
            The rate; the step that ends a drop's own epoch is the last one before the drop.

        Raises:
            ValueError: If the epoch is no number from 0 on.
        """
        _check("epoch", epoch, "at least 0", is_inside=epoch >= 0)
        return self.rate * self.factor ** bisect_left(self.drop_epochs, epoch)


@dataclass(frozen=True, kw_only=True, slots=True)
class CosineSchedule:
    """A rate that rises in a line from 0, and then falls as half a cosine to 0."""

    epochs: float
    """Epochs of the whole training, above 0."""
    rate: float = 1e-3
    """Highest rate, above 0."""
    warm_up: float = 0.03
    """Part of the epochs in which the rate rises, from 0 to below 1."""

    def __post_init__(self) -> None:
        _check("epochs", self.epochs, "above 0 and finite", is_inside=0 < self.epochs < math.inf)
        _check("rate", self.rate, "above 0 and finite", is_inside=0 < self.rate < math.inf)
        _check("warm_up", self.warm_up, "from 0 to below 1", is_inside=0 <= self.warm_up < 1)

    def rate_at(self, epoch: float) -> float:
        """Compute the learning rate.

        Args:
            epoch: Epochs done, parts of one too, at least 0. At 0 the rate is 0 with a warm-up:
                count the step that is about to be taken as done.

        Returns:
            The rate; 0 from the last epoch's end on.

        Raises:
            ValueError: If the epoch is no number from 0 on.
        """
        _check("epoch", epoch, "at least 0", is_inside=epoch >= 0)
        done = min(1.0, epoch / self.epochs)
        if done < self.warm_up:
            return self.rate * done / self.warm_up
        fallen = (done - self.warm_up) / (1 - self.warm_up)
        return self.rate * (1 + math.cos(math.pi * fallen)) / 2


Schedule = StepSchedule | CosineSchedule
"""Any of them."""


def _check(name: str, value: object, expected: str, *, is_inside: bool) -> None:
    if not is_inside:
        raise ValueError(f"schedule {name}: received {value}, expected {expected}")
