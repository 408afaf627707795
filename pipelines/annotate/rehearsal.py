"""Does detection on an image kill its process? Asked of a child that may die, image by image."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from overfeat.views import PreparedImage
from pipelines.isolation import ChildStartError, Isolated, run_on_image
from pipelines.weights import ModelFiles, open_predictor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from overfeat.member import Dtype
    from overfeat.predict_config import PredictConfig, Task
    from overfeat.predictor import Predictor

logger = logging.getLogger(__name__)

_MEMORY_BYTES: Final = 16 * 2**30
"""Beyond what the model took (assumed: more than an image needs on the canvases in use)."""
_START_SECONDS: Final = 3600.0
"""To load the model and look at a first image (measured: 18 s of one CPU thread for one `accurate`
network; a committee on a busy machine takes many times that)."""
_SECONDS: Final = 3600.0
"""For one image; as long as for the first."""
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
            start_seconds=_START_SECONDS,
            # A model that gives no numbers is no fault of the image.
            errors=(ArithmeticError,),
        )
        self._is_possible = True

    def __call__(self, image: PreparedImage) -> None:
        """Detect on one image, and forget what was found; nothing if there is no room for a child.

        Args:
            image: As the actor will see it.

        Raises:
            ImageError: `timeout`, or `crashed` if it killed two children.
        """
        if not self._is_possible:
            return
        try:
            with suppress(ArithmeticError):
                run_on_image(self._isolated, image)
        except ChildStartError as error:
            self._is_possible = False
            logger.warning("images are not tried in a process of their own: %s", error)

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
    # A machine on which no image can be looked at is found out here, and no image is blamed.
    gray = np.full((_SIDE, _SIDE, 3), 128, np.uint8)
    with suppress(ArithmeticError):
        predictor.predict([predictor.prepare(gray, predict)], predict, tasks)
    _opened.append((predictor, predict, tasks))


def _predict_one(image: PreparedImage) -> None:
    predictor, predict, tasks = _opened[0]
    predictor.predict([image], predict, tasks)
