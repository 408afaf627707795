"""Detections against ground truth: mean average precision as pycocotools computes it.

    overfeat evaluate --shards scenes --split test --weights demo

Measures a model, or with --output the tables of a run. 500 digit scenes take
about a minute and a half on two busy cores.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from jobs.entrypoint import Result, make_main
from pipelines.average_precision import Evaluation
from pipelines.evaluate import EvaluateConfig, evaluate


def run(config: EvaluateConfig) -> Result:
    """Measure.

    Args:
        config: The flags.

    Returns:
        Average precisions.
    """
    evaluation = evaluate(config)
    return Result(values=asdict(evaluation), text=describe(evaluation))


def describe(evaluation: Evaluation) -> str:
    """Write an evaluation for people.

    Args:
        evaluation: Average precisions.

    Returns:
        A few lines.
    """
    classes = [f"  {name:<20} {value:.3f}" for name, value in evaluation.per_class_50.items()]
    lines = [
        f"mAP at IoU 0.50       {evaluation.map_50:.3f}",
        f"mAP at IoU 0.50:0.95  {evaluation.map_50_95:.3f}",
        f"recall at IoU 0.50    {evaluation.recall_50:.3f}",
        f"{evaluation.images:,} images, {evaluation.objects:,} objects, {evaluation.boxes:,} boxes",
        "average precision at IoU 0.50 by class",
        *classes,
    ]
    return "\n".join(lines)


main = make_main(EvaluateConfig, run, name="evaluate", description=__doc__)


if __name__ == "__main__":
    sys.exit(main())
