"""Which of a run's settings decide its rows?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from overfeat.member import Dtype
from overfeat.merge import describe_merge
from overfeat.predict_config import PredictConfig
from pipelines import storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.resolve import ResolvedModel
from pipelines.fingerprint import RESULTS_VERSION, Value


def row_settings(
    config: AnnotateConfig, model: ResolvedModel, *, device: str, dtype: Dtype
) -> dict[str, Value]:
    """Collect every setting that can change a row or the manifest.

    Args:
        config: What the user said.
        model: What became of its weights, scales and features.
        device: Kind of device in use: `cpu` or `cuda`.
        dtype: Number format in use.

    Returns:
        Names and values for the fingerprint.
    """
    return {
        "results_version": RESULTS_VERSION,
        "images": storage.resolve_uri(config.images).rstrip("/"),
        "suffixes": sorted({suffix.lower() for suffix in config.suffixes}),
        "limit": config.limit,
        "slice_size": config.slice_size,
        "slice_bytes": config.slice_bytes,
        "weights_digest": model.digest,
        "tasks": sorted(set(config.tasks)),
        **_describe_predict(config.predict_config(), model),
        "shrink": "bilinear-antialias-uint8",
        "threads": config.threads,
        "device": device,
        "dtype": dtype,
        **asdict(config.image_limits()),
        "image_timeout": config.image_timeout,
    }


def _describe_predict(predict: PredictConfig, model: ResolvedModel) -> dict[str, Any]:
    """All that the model is told: a setting that the core adds is here without being named."""
    layer = None if model.features is None else model.features.layer
    return {
        **asdict(predict),
        "scales": [[str(canvas) for canvas in plan.scales] for plan in model.plans],
        "merge": describe_merge(predict.merge),
        "localize": {**asdict(predict.localize), "merge": describe_merge(predict.localize.merge)},
        "features": {**asdict(predict.features), "layer": layer},
    }
