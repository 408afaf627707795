"""Does detection on an image kill its process? Asked of a child that may die, image by image."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from overfeat.views import PreparedImage
from pipelines.isolation import Isolated, run_on_image
from pipelines.weights import ModelFiles, open_predictor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from overfeat.member import Dtype
    from overfeat.predict_config import PredictConfig, Task
    from overfeat.predictor import Predictor

_MEMORY_BYTES: Final = 4 * 2**30
"""Beyond what the model and the first image took (assumed: an image is seen on the same canvases as
any other)."""
_SECONDS: Final = 600.0
"""For one image (assumed: the widest network takes half a minute on one CPU thread)."""
_SIDE: Final = 64
"""Of the image that shows that the child works, in pixels."""


class Rehearsal:
    """A child process with the model of a run; it ends with the `with` block."""

    def __init__(
        self,
        files: ModelFiles,
        predict: PredictConfig,
        tasks: Sequence[Task],
        *,
        device: str,
        dtype: Dtype,
        threads: int,
    ) -> None:
        """Say what the child does; the first image starts it.

        Args:
            files: The model.
            predict: What it is told.
            tasks: What is asked of each image.
            device: Kind of device.
            dtype: Number format of the network.
            threads: CPU threads.
        """
        # The parent's share of the GPU is as small as it can be while the child has the model too.
        if device == "cuda":
            torch.cuda.empty_cache()
        self._isolated = Isolated(
            _predict_one,
            memory_bytes=_MEMORY_BYTES,
            seconds=_SECONDS,
            warm_up=partial(_warm_up, files, predict, tuple(tasks), device, dtype, threads),
            # A model that gives no numbers is no fault of the image.
            errors=(ArithmeticError,),
        )

    def __call__(self, image: PreparedImage) -> None:
        """Detect on one image, and forget what was found.

        Args:
            image: As the actor will see it.

        Raises:
            ImageError: `timeout`, or `crashed` if it killed two children.
        """
        with suppress(ArithmeticError):
            run_on_image(self._isolated, image)

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._isolated.close()


_Model = tuple["Predictor", "PredictConfig", "tuple[Task, ...]"]
_opened: list[_Model] = []
"""In the child: the model, once it is there."""


def _warm_up(
    files: ModelFiles,
    predict: PredictConfig,
    tasks: tuple[Task, ...],
    device: str,
    dtype: Dtype,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    predictor = open_predictor(files, device=device, dtype=dtype)
    # A child that has no room for any image does not get ready; then no image is blamed.
    gray = np.full((_SIDE, _SIDE, 3), 128, np.uint8)
    with suppress(ArithmeticError):
        predictor.predict([predictor.prepare(gray, predict)], predict, tasks)
    _opened.append((predictor, predict, tasks))


def _predict_one(image: PreparedImage) -> None:
    predictor, predict, tasks = _opened[0]
    predictor.predict([image], predict, tasks)
