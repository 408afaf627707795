"""One network of a model on its device: it draws its canvases and evaluates them.

A model is one member, or a committee of several that see the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from overfeat.checkpoint import CheckpointConfig
from overfeat.context import align_context
from overfeat.evaluation import Question, ViewResult, read_views
from overfeat.geometry import map_size, window_boxes
from overfeat.network import OverFeat, WindowValues
from overfeat.predict_config import PredictConfig, Task
from overfeat.predictions import ClassMap
from overfeat.scales import Canvas, is_rising, place, render
from overfeat.views import View, ViewPlan, plan_batches
from overfeat.zoo import get_architecture

Dtype = Literal["float32", "bfloat16", "float16"]
"""Number format of weights and activations; softmax, boxes and merging are always float32 or
better."""

Pixels = UInt8[Tensor, "3 _h _w"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    """What one view tells the next larger scale of the same image."""

    view: View
    values: Float[Tensor, "hidden rows cols"]


def plan_views(checkpoint: CheckpointConfig, config: PredictConfig) -> ViewPlan:
    """Lay down how a network looks at images.

    Args:
        checkpoint: The network's.
        config: May name scales; else they are the checkpoint's, or the architecture's.

    Returns:
        The plan.

    Raises:
        ValueError: If a canvas has no room for a window, or a network with context would be told by
            a larger scale.
    """
    scales = config.scales or checkpoint.ladder
    if checkpoint.context and not is_rising(scales):
        received = " ".join(map(str, scales))
        msg = f"scales: received {received}, expected the smallest first: each tells the next one"
        raise ValueError(msg)
    return ViewPlan(
        views=config.views,
        scales=scales,
        window=get_architecture(checkpoint.architecture).window,
        flips=config.flips,
    )


class Member:
    """A network with all that belongs to it: device, number format, normalisation, ladder."""

    def __init__(
        self, config: CheckpointConfig, network: OverFeat, *, device: str | None, dtype: Dtype
    ) -> None:
        """Put a network on its device.

        Args:
            config: What the checkpoint says of the network.
            network: The network; it is moved and cast, not copied.
            device: Such as `cpu` or `cuda:1`; None for a GPU where there is one.
            dtype: Number format of the weights and activations.

        Raises:
            ValueError: If there is no such number format, or no such device here.
        """
        if dtype not in get_args(Dtype):
            raise ValueError(
                f"dtype: received {dtype!r}, expected one of {', '.join(get_args(Dtype))}"
            )
        self.config = config
        self.device = _find_device(device)
        self.dtype: torch.dtype = getattr(torch, dtype)
        network = network.eval().to(device=self.device, dtype=self.dtype)
        self.network: OverFeat = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        statistics = (config.normalization.mean, config.normalization.std)
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self.device).view(3, 1, 1)
            for values in statistics
        )

    def ask(self, config: PredictConfig, tasks: Sequence[Task]) -> Question:
        """Turn tasks into what is wanted of every view.

        Args:
            config: Thresholds and counts.
            tasks: What is asked of the images.

        Returns:
            The question.

        Raises:
            ValueError: If the network has no such feature layer.
        """
        module = None
        if "features" in tasks:
            module = self.network.architecture.find_module(config.features.layer)
        return Question(
            classes=len(self.config.classes),
            stride=config.stride,
            threshold=config.score_threshold if "detect" in tasks else None,
            top_classes=config.localize.classes_per_scale if "localize" in tasks else None,
            module=module,
            pool=config.features.pool,
        )

    def evaluate(
        self,
        pixels: Sequence[Pixels],
        sizes: Sequence[tuple[int, int]],
        config: PredictConfig,
        tasks: Sequence[Task],
    ) -> Iterator[tuple[View, ViewResult]]:
        """Look at several images together; the batches depend on the images alone.

        Args:
            pixels: RGB on this member's device, of the original images or shrunk.
            sizes: Height and width of each original image, in pixels.
            config: Scales, stride, flips, thresholds.
            tasks: What is asked of them.

        Yields:
            Each view, with what its windows say.
        """
        question = self.ask(config, tasks)
        for views, values in self._look(pixels, sizes, config, tap=question.module):
            yield from zip(views, read_views(self.network, values, views, question), strict=True)

    def extract(
        self, pixels: Pixels, module: str, config: PredictConfig
    ) -> Float[Tensor, "c rows cols"]:
        """Run one image as it is up to a module.

        Args:
            pixels: RGB on this member's device.
            module: One of the architecture's modules.
            config: The stride.

        Returns:
            The module's output, a copy.

        Raises:
            ValueError: If the image has no room for one window.
        """
        height, width = pixels.shape[1:]
        window = self.network.architecture.window
        if min(height, width) < window:
            msg = f"image: received {height}x{width} pixels, expected at least {window}x{window}"
            raise ValueError(msg)
        whole = place(Canvas(min(height, width), max(height, width)), height=height, width=width)
        canvases = self.draw([pixels], [View(0, whole, flipped=False)])
        return self.network.activations(canvases, layer=module, stride=config.stride)[0]

    def map_classes(
        self, pixels: Pixels, size: tuple[int, int], config: PredictConfig
    ) -> list[ClassMap]:
        """Read the class probabilities of all windows.

        Args:
            pixels: RGB on this member's device.
            size: Height and width of the original image, in pixels.
            config: Scales and stride.

        Returns:
            One map per view that is not mirrored.
        """
        classes = len(self.config.classes)
        maps = []
        for views, values in self._look([pixels], [size], replace(config, flips=False)):
            for view, logits in zip(views, values.logits.float(), strict=True):
                rows, cols = logits.shape[1:]
                windows = window_boxes(self.network.architecture, rows, cols, config.stride)
                seen = view.placement.sees_image(windows)
                probabilities = logits.softmax(dim=0)[:classes].cpu().numpy()
                if not view.flipped:
                    maps.append(
                        ClassMap(
                            canvas=str(view.placement.canvas),
                            probabilities=np.where(seen, probabilities, np.float32(0)),
                            windows_xyxy=view.to_image(windows),
                        )
                    )
        return maps

    def draw(
        self, pixels: Sequence[Pixels], views: Sequence[View]
    ) -> Float[Tensor, "b 3 canvas_h canvas_w"]:
        """Render the canvases of some views in the network's number format.

        Args:
            pixels: RGB of the images.
            views: All with canvases of one size.

        Returns:
            Normalised canvases, mirrored where the view is.
        """
        canvases = []
        for view in views:
            canvas = render(pixels[view.image], view.placement, mean=self._mean, std=self._std)
            canvases.append(canvas.flip(-1) if view.flipped else canvas)
        batch = torch.stack(canvases).to(self.dtype)
        return batch.contiguous(memory_format=torch.channels_last)

    def _look(
        self,
        pixels: Sequence[Pixels],
        sizes: Sequence[tuple[int, int]],
        config: PredictConfig,
        *,
        tap: str | None = None,
    ) -> Iterator[tuple[list[View], WindowValues]]:
        """Run the network over all views, batch by batch, each scale told what the last one saw."""
        told: dict[tuple[int, bool], _Told] = {}
        plan = plan_views(self.config, config)
        for views in self._plan_batches(sizes, plan, config):
            lower = [told.pop(key) for view in views if (key := (view.image, view.flipped)) in told]
            context = self._align(lower, views, config) if lower else None
            canvases = self.draw(pixels, views)
            # Crops of one size have no lower scale, and nobody is told by the largest.
            tell = plan.views == "dense" and views[0].scale + 1 < len(plan.scales)
            values = self.network(canvases, config.stride, context=context, tap=tap, tell=tell)
            if values.context is not None:
                for view, told_values in zip(views, values.context, strict=True):
                    told[view.image, view.flipped] = _Told(view=view, values=told_values)
            yield views, values

    def _plan_batches(
        self, sizes: Sequence[tuple[int, int]], plan: ViewPlan, config: PredictConfig
    ) -> Iterator[list[View]]:
        """All views in batches; with context, a few images at a time, for each one's is kept."""
        largest = max(canvas.area for canvas in plan.scales)
        group = max(1, config.batch_pixels // largest) if self.config.context else len(sizes)
        for first in range(0, len(sizes), max(1, group)):
            some = sizes[first : first + group]
            for views in plan_batches(some, plan, batch_pixels=config.batch_pixels):
                yield [replace(view, image=first + view.image) for view in views]

    def _align(
        self, lower: Sequence[_Told], views: Sequence[View], config: PredictConfig
    ) -> Float[Tensor, "b hidden rows cols"]:
        """Lay what the lower scale told over the windows of these views."""
        architecture = self.network.architecture
        canvas = views[0].placement.canvas
        rows, cols = (
            map_size(architecture, side, config.stride) for side in (canvas.height, canvas.width)
        )
        aligned = [
            align_context(
                each.values,
                architecture,
                lower_view=each.view,
                view=view,
                shape=(rows, cols),
                stride=config.stride,
            )
            for each, view in zip(lower, views, strict=True)
        ]
        return torch.stack(aligned)


def _find_device(name: str | None) -> torch.device:
    """A device of this machine; without a name its GPU, or else the CPU.

    Raises:
        ValueError: If there is no such device.
    """
    known = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        numbers = range(torch.accelerator.device_count())
        known += [accelerator.type, *(f"{accelerator.type}:{number}" for number in numbers)]
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen not in known:
        here = "" if accelerator is not None else "; torch sees no GPU on this machine"
        raise ValueError(f"device: received {name!r}, expected one of {', '.join(known)}{here}")
    return torch.device(chosen)
