"""Checkpoints, pictures and runs that several tests build: small enough for seconds."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from jobs.cli import dispatch
from overfeat.checkpoint import CheckpointConfig, save_checkpoint
from overfeat.scales import Canvas
from pipelines import storage
from pipelines.annotate.config import AnnotateConfig
from pipelines.annotate.planning import (
    list_images,
    write_first_generation,
    write_next_generation,
)
from pipelines.annotate.resolve import resolve_model
from pipelines.annotate.settings import row_settings
from pipelines.annotate.stages import StageConfig, detect_slice, read_slice, write_slice
from pipelines.fingerprint import compute_fingerprint
from pipelines.manifest import open_manifest
from pipelines.receipts import find_committed, read_receipt
from pipelines.shards.index import INDEX_VERSION
from pipelines.shards.samples import ObjectMetadata, Sample, SampleMetadata
from pipelines.shards.writer import pack_shards
from pipelines.tables import (
    BOXES,
    FEATURES,
    GUESSES,
    IMAGES,
    IMAGES_SCHEMA,
    Provenance,
    encode_table,
    slice_name,
)
from pipelines.weights import fetch_model, open_predictor

CLASSES = ("ant", "bee", "cat")


def make_checkpoint(folder, *, seed=1, silent=False, scales=("245x245",), classes=CLASSES):
    """Save `tiny` with weights drawn by NumPy, the same bits on every machine.

    Every window sees some of each class, and an object in its middle; a `silent` model sees none.
    """
    config = CheckpointConfig(
        architecture="tiny",
        classes=classes,
        background=True,
        regressor="single",
        scales=tuple(Canvas.parse(scale) for scale in scales),
    )
    random = np.random.default_rng(seed)
    tensors = {}
    for name, tensor in config.build_network().state_dict().items():
        fan_in = tensor[0].numel()
        values = random.normal(0, (2 / fan_in) ** 0.5, tuple(tensor.shape))
        tensors[name] = torch.from_numpy(values.astype(np.float32)) * (fan_in > 1)
    # Large outputs of random weights would make one class certain, and boxes anywhere.
    tensors["classifier.fc9.weight"] *= 0.1
    tensors["regressor.edges.weight"] *= 0.03
    tensors["regressor.edges.bias"].copy_(torch.tensor([0.3, 0.3, 0.7, 0.7]))
    tensors["classifier.fc9.bias"][-1] = 50 if silent else 0
    save_checkpoint(folder, config, tensors)
    return str(folder)


def make_picture(seed, *, height=96, width=128):
    """Blocks of colour with noise on them: uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 200, (-(-height // 16), -(-width // 16), 3))
    pattern = np.kron(blocks, np.ones((16, 16, 1), dtype=int))[:height, :width]
    return (pattern + random.integers(0, 56, pattern.shape)).astype(np.uint8)


def encode_picture(pixels, image_format="JPEG", **options):
    """Encode pixels as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def write_pictures(root, count, *, start=0):
    """Put pictures of four shapes, one larger than its scale, under a root on disk or in S3."""
    sizes = [(96, 128), (128, 96), (300, 280), (64, 200)]
    uris = []
    for number in range(start, start + count):
        height, width = sizes[number % len(sizes)]
        uri = storage.join_uri(root, f"photo-{number:03d}.jpg")
        data = encode_picture(make_picture(number, height=height, width=width))
        storage.write_bytes(uri, data)
        uris.append(uri)
    return uris


def make_config(root, *weights, **changes):
    """Settings for a run from ROOT/in to ROOT/out that finds several boxes in an image."""
    settings = {
        "images": storage.join_uri(root, "in"),
        "output": storage.join_uri(root, "out"),
        "weights": tuple(map(str, weights)),
        "slice_size": 4,
        "score_threshold": 0.25,
        "workers": 1,
    }
    return AnnotateConfig(**settings | changes)


def start_run(config, output):
    """Write the manifest, and say what the graph would tell the stages."""
    write_first_generation(config, output, list_images(config, output), check=lambda: None)
    model = resolve_model(config, _fetch_once(config.weights))
    settings = row_settings(config, model, device="cpu", dtype="float32")
    return StageConfig(
        output=output,
        fingerprint=compute_fingerprint(settings),
        lease=None,
        plans=model.plans,
        tasks=config.tasks,
        channels=None if model.features is None else model.features.channels,
        predict=config.predict_config(),
        limits=config.image_limits(),
        image_timeout=config.image_timeout,
    )


def open_model(config):
    """Build the model as a detect actor does."""
    torch.set_num_threads(config.threads)
    return _open_once(config.weights)


@cache
def _open_once(weights):
    return open_predictor(_fetch_once(weights), device="cpu", dtype="float32")


@cache
def _fetch_once(weights):
    return fetch_model(weights)


def annotate_without_ray(config, output, *, slices=None):
    """Do a run with the plain stage functions, slice after slice; some slices or all."""
    stages = start_run(config, output)
    for number in slices or range(open_manifest(output).summary.slices):
        do_slice(config, stages, number)
    return stages


def read_numbered(number, stages, **options):
    """Read the images of a slice from where the manifest lists it now."""
    return read_slice(open_manifest(stages.output).place_of(number), stages, **options)


def do_slice(config, stages, number=0):
    """Take a slice through all stages."""
    detected = detect_slice(read_numbered(number, stages), open_model(config), stages)
    return write_slice(detected, stages)


def count_rows(output, slices):
    """Rows of committed slices, by their receipts."""
    return {number: read_receipt(output, number).counts for number in slices}


def look_again(config, output, *, update=True, retry_failed=False):
    """Write the next generation of a finished run, if there is work."""
    manifest = open_manifest(output)
    asked = replace(config, update=update, retry_failed=retry_failed)
    counts = count_rows(output, range(manifest.summary.slices))
    return write_next_generation(asked, manifest, counts, check=lambda: None)


def finish_without_ray(config, stages):
    """Do the slices that are not committed; returns their summaries."""
    manifest = open_manifest(stages.output)
    left = set(range(manifest.summary.slices)) - find_committed(manifest)
    tables = [do_slice(config, stages, number) for number in sorted(left)]
    return [row for table in tables for row in table.to_pylist()]


def put_receipt(root, number, counts):
    """Commit a slice: a receipt that tells its counts, without the rows."""
    provenance = Provenance(fingerprint="f", generation=0)
    table = IMAGES_SCHEMA.empty_table()
    data = encode_table(table, IMAGES_SCHEMA, provenance, counts=counts.encode())
    storage.write_bytes(storage.join_uri(root, IMAGES, slice_name(number)), data)


def read_file(uri):
    """Read one Parquet file with the schema that stands in it."""
    # The files of tests are too small for threads, which cost more than they bring.
    return pq.read_table(pa.BufferReader(storage.read_bytes(uri)), use_threads=False)


def read_rows(output, table):
    """Read a table of a run, slice after slice."""
    folder = storage.join_uri(output, table)
    names = sorted(storage.list_names(folder))
    return pa.concat_tables([read_file(storage.join_uri(folder, name)) for name in names])


def assert_same_rows(one, other):
    """Two runs have the same tables, and agree bit for bit in every column."""
    kinds = [{name.split("/")[0] for name in list_all(root)} for root in (one, other)]
    tables = {IMAGES, BOXES, GUESSES, FEATURES}
    assert kinds[0] & tables == kinds[1] & tables
    for table in sorted(kinds[0] & tables):
        assert read_rows(one, table).equals(read_rows(other, table)), table


def list_all(root):
    """Name everything below a root, relative to it."""
    return sorted(storage.relative_to(info.uri, root) for info in storage.iter_objects(root))


def annotate_flags(config):
    """Write the settings of `make_config` as a command."""
    return [
        "annotate", "--images", config.images, "--output", config.output,
        "--weights", *config.weights, "--slice-size", str(config.slice_size),
        "--score-threshold", str(config.score_threshold), "--workers", str(config.workers),
        "--tasks", *config.tasks,
        *(["--scales", *config.scales] if config.scales else []),
    ]  # fmt: skip


class CommandRun(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def refusal(self):
        """The one sentence on stderr; nothing on stdout, no traceback."""
        assert self.out == ""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


def run_command(*args):
    """Run `overfeat ARGS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("pipelines", "overfeat", "jobs"))]
    handlers, levels = root.handlers[:], [logger.level for logger in loggers]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = dispatch([str(arg) for arg in args])
    except SystemExit as end:
        code = end.code or 0
    finally:
        root.handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    return CommandRun(code, out.getvalue(), err.getvalue())


def write_scenes(folder, count, *, split="train", classes=("red", "green"), objects=1, named=False):
    """Pack dark pictures with one bright rectangle each, red or green, into a shard.

    With no objects nobody has written down what they show, but for its class if that is named.
    """
    samples = []
    for number in range(count):
        random = np.random.default_rng(number)
        label = number % len(classes)
        left, top = random.integers(10, [120, 60])
        width, height = random.integers(60, 120, 2)
        pixels = random.integers(0, 40, (240, 320, 3)).astype(np.uint8)
        pixels[top : top + height, left : left + width, label] = 255
        box = (float(left), float(top), float(left + width), float(top + height))
        metadata = SampleMetadata(
            width=320,
            height=240,
            original_name=f"made {number}",
            label=label if named else None,
            objects=(ObjectMetadata(label=label, box_xyxy=box),) * objects,
        )
        image = encode_picture(pixels, quality=95)
        key = f"{split}-{number:04d}"
        samples.append(Sample(key=key, image=image, extension="jpg", metadata=metadata))
    shards = pack_shards(str(folder), split=split, samples=samples, samples_per_shard=4)
    index = {"version": INDEX_VERSION, "classes": list(classes), "recipes": {}, "shards": shards}
    (folder / "index.json").write_text(json.dumps(index))
    return str(folder)
