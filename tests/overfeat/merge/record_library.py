"""What does the library ensemble-boxes make of three scenes?

`python -m tests.overfeat.merge.record_library` writes its answer anew, where ensemble-boxes 1.0.9
is installed; the tests need only the answer.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

ANSWERS = Path(__file__).parent / "library.json"
SEED = 20170408
SIDE = 512
"""Pixels of an image's side: a power of 2, so that the library's coordinates, from 0 to 1, are as
exact as ours."""
CONFIGS = (
    *({"method": "nms", "iou": iou} for iou in (0.3, 0.5)),
    *({"method": "soft-nms", "decay": "linear", "iou": iou, "floor": 0.001} for iou in (0.3, 0.5)),
    {"method": "soft-nms", "decay": "gaussian", "sigma": 0.5, "floor": 0.001},
    {"method": "soft-nms", "decay": "gaussian", "sigma": 0.1, "floor": 0.1},
    *({"method": "wbf", "iou": iou} for iou in (0.4, 0.55)),
)
CALLS = {
    "nms": "nms([boxes], [scores], [labels], iou_thr=iou)",
    "soft-nms": "cpu_soft_nms_float(boxes, scores, Nt=iou, sigma=sigma, thresh=floor, method=1 for"
    " linear, 2 for gaussian); the decayed scores are what it leaves in its argument",
    "wbf": "weighted_boxes_fusion([boxes], [scores], [labels], iou_thr=iou, conf_type='avg',"
    " allows_overflow=True); best: the scores with conf_type='max', in the same order",
}


def make_scenes():
    """40 windows each, in whole pixels: around five objects, around one, anywhere."""
    random = np.random.default_rng(SEED)
    scenes = {}
    for name, objects in (("five objects", 5), ("one object", 1), ("scattered", 40)):
        centre = random.integers(100, SIDE - 100, (objects, 2))
        side = random.integers(60, 160, (objects, 2))
        which = np.arange(40) % objects
        centre = centre[which] + random.normal(0, 0.1, (40, 2)) * side[which]
        half = side[which] * np.exp(random.normal(0, 0.15, (40, 2))) / 2
        boxes = np.rint(np.hstack([centre - half, centre + half])).clip(0, SIDE).astype(int)
        # All different: the library breaks ties by an unstable sort.
        scores = random.permutation(np.arange(24, 1024))[:40] / 1024
        scenes[name] = boxes, scores
    return scenes


def ask_library(boxes, scores, config):
    """The library's boxes, from 0 to 1, and scores, both in its order."""
    from ensemble_boxes import nms, weighted_boxes_fusion
    from ensemble_boxes.ensemble_boxes_nms import cpu_soft_nms_float

    boxes = boxes / SIDE
    lists = [boxes], [scores], [np.zeros(len(boxes), dtype=int)]
    if config["method"] == "nms":
        kept, found, _ = nms(*lists, iou_thr=config["iou"])
        return {"boxes": kept.tolist(), "scores": found.tolist()}
    if config["method"] == "soft-nms":
        decayed = scores.copy()
        kept = cpu_soft_nms_float(
            boxes,
            decayed,
            Nt=config.get("iou"),
            sigma=config.get("sigma"),
            thresh=config["floor"],
            method={"linear": 1, "gaussian": 2}[config["decay"]],
        )
        left = decayed[decayed > config["floor"]]
        return {"boxes": boxes[kept].tolist(), "scores": left.tolist()}
    fused, sums, _ = weighted_boxes_fusion(
        *lists, iou_thr=config["iou"], conf_type="avg", allows_overflow=True
    )
    others, best, _ = weighted_boxes_fusion(*lists, iou_thr=config["iou"], conf_type="max")
    same = [next(i for i, b in enumerate(others) if np.array_equal(b, box)) for box in fused]
    return {"boxes": fused.tolist(), "scores": sums.tolist(), "best": best[same].tolist()}


def main():
    scenes = [
        {
            "name": name,
            "boxes": boxes.tolist(),
            "probabilities": scores.tolist(),
            "answers": [
                {"config": config, **ask_library(boxes, scores, config)} for config in CONFIGS
            ],
        }
        for name, (boxes, scores) in make_scenes().items()
    ]
    source = {"library": f"ensemble-boxes {version('ensemble-boxes')}", "calls": CALLS}
    answer = {"source": {**source, "seed": SEED, "side": SIDE}, "scenes": scenes}
    ANSWERS.write_text(json.dumps(answer, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
