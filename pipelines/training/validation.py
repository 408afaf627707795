"""How good is a network that is being trained, on samples that it does not learn from?

Every worker measures its share of them with the weights of the first, on a network of its own:
nothing of the training changes, no random number of it is drawn.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from overfeat.draw import draw_boxes
from overfeat.losses import LossSums, weigh_loss
from overfeat.member import Member
from overfeat.metrics import misses_class, misses_object
from overfeat.predict_config import PredictConfig, Task
from overfeat.predictions import Prediction
from overfeat.predictor import Predictor
from pipelines.average_precision import FoundBox, KnownImage, measure
from pipelines.errors import ImageError, PipelineError
from pipelines.images import ImageLimits
from pipelines.shards.samples import SampleMetadata
from pipelines.training.context import TwoScales
from pipelines.training.decoding import decode_sample
from pipelines.training.events import Picture
from pipelines.training.examples import Example, join_examples
from pipelines.training.job import Job
from pipelines.training.learner import compare_windows, see_windows
from pipelines.training.order import make_example_rng
from pipelines.training.recipe import TrainingTask
from pipelines.training.shard_set import EncodedSample, ShardSet

logger = logging.getLogger(__name__)

_BATCH: Final = 8
"""Images looked at together (assumed: the network evaluates at most so many canvases at once)."""
_BATCHES_AHEAD: Final = 2
"""Decoded while the network looks at one (assumed: enough to cover a slow image)."""
_PICTURE_SIDE: Final = 480
"""Longer side of a picture at most, in pixels."""
_ASKED: Final[dict[TrainingTask, tuple[Task, ...]]] = {
    "classify": ("classify",),
    "localize": ("classify", "localize"),
    "detect": ("detect",),
    "joint": ("classify", "localize", "detect"),
}
DECIDES: Final[dict[TrainingTask, str]] = {
    "classify": "top1_error",
    "localize": "localization_error",
    "detect": "map_50",
    "joint": "map_50",
}
"""What is best, by task: the lowest error, or the highest mean average precision."""


@dataclass(kw_only=True, slots=True)
class _Share:
    """What one worker finds out."""

    errors: dict[str, list[bool]] = field(default_factory=dict)
    known: list[KnownImage] = field(default_factory=list)
    found: list[tuple[FoundBox, ...]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))
    damaged: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Case:
    """A held-out sample, decoded."""

    number: int
    key: str
    pixels: NDArray[np.uint8]
    metadata: SampleMetadata
    example: Example | None

    @property
    def label(self) -> int | None:
        """The image's class, its own or that of all its objects; None if there is no such."""
        classes = {one.label for one in self.metadata.objects}
        only = next(iter(classes)) if len(classes) == 1 else None
        return only if self.metadata.label is None else self.metadata.label


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """How good a network is."""

    values: Mapping[str, float]
    """Errors, mean average precision and losses by name."""
    pictures: Sequence[Picture]
    """A few images with what was found on them."""


class Validator:
    """Measures the network of a training, again and again."""

    def __init__(self, job: Job, held_out: ShardSet, device: torch.device) -> None:
        """Choose the samples.

        Args:
            job: The training.
            held_out: What to measure on.
            device: Where to compute.
        """
        self._job = job
        self._shards = held_out
        self._device = device
        self._numbers = choose_samples(held_out.samples, job.config.held_out.validation_limit)
        shown = choose_samples(len(self._numbers), job.config.held_out.validation_pictures)
        self._shown = {self._numbers[place] for place in shown}
        recipe = job.config.recipe
        plain = replace(recipe.crops, flip=0.0, colour_jitter=0.0)
        self._make = job.make_examples(
            replace(
                recipe, crops=plain, portrait_epochs=0, portrait_fade_epochs=0, portrait_share=0.0
            )
        )

    def measure(self, weights: Mapping[str, Tensor]) -> Measured:
        """Measure, together with all other workers.

        Args:
            weights: `state_dict` of a plain network; those of the first worker count.

        Returns:
            The same on every worker.

        Raises:
            PipelineError: If none of the samples can be read.
        """
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        world = distributed.get_world_size() if distributed.is_initialized() else 1
        member = self._open_member(self._take_first(weights))
        mine = take_share(self._numbers, rank, world)
        share = _Share()
        cases = self._iter_cases(mine, share)
        predictor = Predictor([member])
        with torch.inference_mode():
            while batch := list(islice(cases, _BATCH)):
                self._add_loss([one.example for one in batch if one.example], member, share)
                self._add_predictions(batch, predictor, share)
        return self._conclude(_gather(share, world))

    def _take_first(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first worker's weights: statistics of batches differ from worker to worker."""
        if not distributed.is_initialized():
            return dict(weights)
        ours = {name: value.to(self._device) for name, value in weights.items()}
        for value in ours.values():
            distributed.broadcast(value, 0)
        return ours

    def _open_member(self, weights: Mapping[str, Tensor]) -> Member:
        network = self._job.checkpoint.build_network()
        network.load_state_dict(dict(weights))
        index = "" if self._device.index is None else f":{self._device.index}"
        return Member(
            self._job.checkpoint,
            network,
            device=f"{self._device.type}{index}",
            dtype=self._job.config.dtype,
        )

    def _iter_cases(self, numbers: Sequence[int], share: _Share) -> Iterator[_Case]:
        """Decode in threads: some samples while the network looks at those before."""
        ahead: deque[tuple[EncodedSample, Future[_Case]]] = deque()
        with ThreadPoolExecutor(max(1, self._job.config.decoders)) as decoders:
            for number, encoded in iter_chosen(self._shards, numbers):
                ahead.append((encoded, decoders.submit(self._decode, number, encoded)))
                if len(ahead) > _BATCHES_AHEAD * _BATCH:
                    yield from _take_case(*ahead.popleft(), share)
            while ahead:
                yield from _take_case(*ahead.popleft(), share)

    def _decode(self, number: int, encoded: EncodedSample) -> _Case:
        """Decode one sample.

        Raises:
            ImageError: If it is damaged.
        """
        classes = len(self._shards.classes)
        pixels, metadata = decode_sample(encoded, ImageLimits(), classes=classes)
        return _Case(
            number=number,
            key=encoded.key,
            pixels=pixels,
            metadata=metadata,
            example=self._make_example(number, pixels, metadata),
        )

    def _make_example(
        self, number: int, pixels: NDArray[np.uint8], metadata: SampleMetadata
    ) -> Example | None:
        """The same crop of a sample whenever it is measured; None if it has no class to learn."""
        try:
            return self._make(pixels, metadata, make_example_rng(0, 0, number), 0)
        except ImageError:
            return None

    def _add_loss(self, examples: Sequence[Example], member: Member, share: _Share) -> None:
        if not examples:
            return
        batch = join_examples(examples)
        model = member.network if batch.lower is None else TwoScales(member.network)
        sums = compare_windows(
            see_windows(model, batch, device=self._device, dtype=member.dtype),
            batch,
            background=self._job.background,
            coding=member.network.box_coding,
            config=self._job.config.recipe.loss,
        )
        share.sums += sums.sums.double().cpu().numpy()
        share.counts += sums.counts.cpu().numpy()

    def _add_predictions(self, batch: Sequence[_Case], predictor: Predictor, share: _Share) -> None:
        task = self._job.config.task
        views = self._job.config.held_out.validation_views if task == "classify" else "dense"
        config = PredictConfig(views=views)
        prepared = [predictor.prepare(one.pixels, config) for one in batch]
        for case, found in zip(
            batch, predictor.predict(prepared, config, _ASKED[task]), strict=True
        ):
            _count_errors(case, found, share.errors, len(self._shards.classes))
            if found.detections is not None:
                share.known.append(KnownImage.of(case.key, b"", case.metadata))
                share.found.append(_list_boxes(found))
            if case.number in self._shown:
                share.pictures.append(Picture(name=case.key, pixels=_draw(case, found)))

    def _conclude(self, shares: Sequence[_Share]) -> Measured:
        if sum(share.damaged for share in shares) == len(self._numbers):
            raise PipelineError(
                f"--validation {self._shards.folder}: none of its {len(self._numbers)} samples "
                "could be read; look at the warnings above"
            )
        values = {}
        names = sorted({name for share in shares for name in share.errors})
        for name in names:
            values[name] = float(
                np.mean([x for share in shares for x in share.errors.get(name, [])])
            )
        known = [one for share in shares for one in share.known]
        # Where nobody has drawn a box there is nothing to measure boxes against.
        if any(not one.is_unboxed for one in known):
            boxes = [of for share in shares for of in share.found]
            found = [replace(box, image=place) for place, of in enumerate(boxes) for box in of]
            evaluation = measure(known, found, self._job.checkpoint.classes)
            values |= {"map_50": evaluation.map_50, "map_50_95": evaluation.map_50_95}
        sums, counts = (sum(getattr(one, name) for one in shares) for name in ("sums", "counts"))
        total = LossSums(sums=torch.as_tensor(sums), counts=torch.as_tensor(counts))
        loss = weigh_loss(total, total.counts, self._job.config.recipe.loss)
        values["loss"] = loss.total.item()
        return Measured(values=values, pictures=[one for share in shares for one in share.pictures])


def _take_case(encoded: EncodedSample, case: Future[_Case], share: _Share) -> Iterator[_Case]:
    """Wait for a sample; a damaged one is counted instead."""
    try:
        yield case.result()
    except ImageError as error:
        share.damaged += 1
        logger.warning("held-out sample %s is left out: %s", encoded.key, error)


def choose_samples(count: int, limit: int | None) -> list[int]:
    """Choose samples evenly: data sets are often sorted by class.

    Args:
        count: How many there are.
        limit: How many are wanted at most; all if None.

    Returns:
        Their numbers, ascending.
    """
    wanted = count if limit is None else min(count, limit)
    return [place * count // wanted for place in range(wanted)]


def take_share(numbers: Sequence[int], rank: int, world: int) -> Sequence[int]:
    """Divide samples among workers: neighbours stay together, as they are read.

    Args:
        numbers: Of all that are measured.
        rank: Of the worker.
        world: Workers.

    Returns:
        Those of this worker.
    """
    count = len(numbers)
    return numbers[count * rank // world : count * (rank + 1) // world]


def iter_chosen(shards: ShardSet, numbers: Sequence[int]) -> Iterator[tuple[int, EncodedSample]]:
    """Read some samples of a set.

    Args:
        shards: The set.
        numbers: Of the samples in the set, ascending.

    Yields:
        Number and sample.

    Raises:
        StorageError: A shard cannot be read, or is not what the index says.
    """
    for shard, (first, size) in enumerate(
        zip(shards.first_numbers, shards.shard_sizes, strict=True)
    ):
        places = [number - first for number in numbers if first <= number < first + size]
        if places:
            wanted = set(places)
            samples = shards.iter_samples(shard, places[0], places[-1] + 1)
            for place, sample in enumerate(samples, start=places[0]):
                if place in wanted:
                    yield first + place, sample


def _gather(share: _Share, world: int) -> list[_Share]:
    if world == 1:
        return [share]
    shares: list[Any] = [None] * world
    distributed.all_gather_object(shares, share)
    return shares


def _count_errors(
    case: _Case, found: Prediction, errors: dict[str, list[bool]], classes: int
) -> None:
    """Note what is wrong about an image that has a class."""
    if case.label is None:
        return
    if found.classification is not None:
        # Five guesses at five classes are never wrong.
        for guesses in (guesses for guesses in (1, 5) if guesses < classes):
            miss = misses_class(found.classification, case.label, guesses=guesses)
            errors.setdefault(f"top{guesses}_error", []).append(miss)
    boxes = _boxes_of(case, case.label)
    if found.guesses is not None and len(boxes):
        miss = misses_object(found.guesses, case.label, boxes)
        errors.setdefault("localization_error", []).append(miss)


def _boxes_of(case: _Case, label: int) -> NDArray[np.float32]:
    boxes = [one.box_xyxy for one in case.metadata.objects if one.label == label]
    return np.array(boxes, np.float32).reshape(-1, 4)


def _list_boxes(found: Prediction) -> tuple[FoundBox, ...]:
    assert found.detections is not None
    boxes = found.detections
    return tuple(
        FoundBox(image=0, label_id=int(label), rank_by=float(evidence), box_xyxy=tuple(box))
        for label, evidence, box in zip(
            boxes.label_ids, boxes.evidence, boxes.boxes_xyxy.tolist(), strict=True
        )
    )


def _draw(case: _Case, found: Prediction) -> NDArray[np.uint8]:
    """The image, small, with its boxes, or with its class around it."""
    pixels = _reduce(case.pixels)
    factor = pixels.shape[1] / case.pixels.shape[1]
    boxes = found.detections if found.detections is not None else found.guesses
    if boxes is not None:
        corners = boxes.boxes_xyxy * np.float32(factor)
        return draw_boxes(pixels, corners, boxes.labels, boxes.scores)
    assert found.classification is not None
    height, width, _ = pixels.shape
    whole = np.array([[0, 0, width, height]], np.float32)
    best = found.classification
    return draw_boxes(pixels, whole, best.labels[:1], best.scores[:1])


def _reduce(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make an image small by a whole factor: each pixel is the mean of a block."""
    height, width, channels = pixels.shape
    factor = min(-(-max(height, width) // _PICTURE_SIDE), height, width)
    rows, cols = height // factor, width // factor
    blocks = pixels[: rows * factor, : cols * factor].reshape(rows, factor, cols, factor, channels)
    return np.asarray(blocks.mean(axis=(1, 3)).astype(np.uint8))
