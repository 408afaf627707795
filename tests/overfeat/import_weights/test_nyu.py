"""The weight files of the 2014 program: their layout, and its own activations.

The golden arrays are what the released program printed for the fast network with a weight file of
known random numbers, so that nothing of its weights is needed. It prints six digits.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import overfeat
from overfeat.import_weights import WeightFileError, import_nyu_weights, nyu, read_imagenet_classes
from overfeat.zoo import FAST
from tests.overfeat.builders import describe

DATA = Path(__file__).parents[1] / "data"
FAST_BYTES, ACCURATE_BYTES = 583_683_488, 578_625_952

# Shapes in the order of `net_weight_0`: a weight and a bias of shape[0] each.
FAST_SHAPES = (
    (96, 3, 11, 11),
    (256, 96, 5, 5),
    (512, 256, 3, 3),
    (1024, 512, 3, 3),
    (1024, 1024, 3, 3),
    (3072, 1024, 6, 6),
    (4096, 3072, 1, 1),
    (1000, 4096, 1, 1),
)
# Offsets of weight and bias in `net_weight_1`, in floats.
ACCURATE_OFFSETS = {
    "trunk.conv1": (0, 14_112),
    "trunk.conv2": (14_208, 1_218_432),
    "trunk.conv3": (1_218_688, 2_398_336),
    "trunk.conv4": (2_398_848, 4_758_144),
    "trunk.conv5": (4_758_656, 9_477_248),
    "trunk.conv6": (9_478_272, 18_915_456),
    "classifier.fc7": (18_916_480, 123_774_080),
    "classifier.fc8": (123_778_176, 140_555_392),
    "classifier.fc9": (140_559_488, 144_655_488),
}


def write_random_weights(path):
    """The file of the recipe: PCG64(2013), layer by layer, weight before bias."""
    random = np.random.Generator(np.random.PCG64(2013))
    with path.open("wb") as file:
        for shape in FAST_SHAPES:
            fan_in = np.prod(shape[1:])
            weight = random.standard_normal(shape, dtype=np.float32)
            weight *= np.float32(np.sqrt(2 / fan_in))
            weight.tofile(file)
            bias = random.standard_normal(shape[0], dtype=np.float32) * np.float32(0.1)
            bias.tofile(file)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The fast network with the recipe's weights; its 1.2 GB of files are gone when tests start."""
    folder = tmp_path_factory.mktemp("nyu")
    try:
        write_random_weights(folder / "net_weight_0")
        config = import_nyu_weights(folder / "net_weight_0", folder / "checkpoint")
        (folder / "net_weight_0").unlink()
        model = overfeat.load(folder / "checkpoint", device="cpu")
    finally:
        shutil.rmtree(folder)
    return config, model


@pytest.mark.parametrize("size", ["231x231", "281x317"])
@pytest.mark.parametrize(
    ("layer", "array", "channels"),
    [(19, "features", slice(None)), (21, "logits", slice(None)), (16, "pool5_sample", np.s_[::64])],
)
def test_the_activations_are_those_of_the_2014_program(imported, size, layer, array, channels):
    _, model = imported
    pixels = np.asarray(Image.open(DATA / f"img_{size}.png"))
    with np.load(DATA / "original_fast.npz") as golden:
        expected = golden[f"fast_{size}_{array}"]
    found = model.extract(pixels, layer=layer)[channels]
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)


def test_every_golden_array_is_compared():
    with np.load(DATA / "original_fast.npz") as golden:
        names = {
            f"fast_{size}_{array}"
            for size in ("231x231", "281x317")
            for array in ("features", "logits", "pool5_sample")
        }
        assert set(golden.files) == names


def test_an_imported_model_says_where_it_comes_from(imported):
    config, model = imported
    assert [member.config for member in model.members] == [config]
    assert config.classes == read_imagenet_classes("ilsvrc2012")
    assert config.architecture == "fast"
    assert config.provenance == {"source": "nyu", "file": "net_weight_0", "bytes": FAST_BYTES}
    assert set(config.normalization.mean) == {118.380948}
    assert set(config.normalization.std) == {61.896913}
    assert (config.background, config.regressor) == (False, "none")
    assert config.ladder == FAST.scales


def test_the_accurate_file_is_known_by_its_size_and_read_at_its_offsets(tmp_path, monkeypatch):
    """A file of holes, with one number at the start and the end of each array."""
    state = {}
    monkeypatch.setattr(
        nyu, "save_checkpoint", lambda _folder, _config, tensors: state.update(tensors)
    )
    source = tmp_path / "weights"
    source.touch()
    floats = np.memmap(source, dtype="<f4", mode="r+", shape=ACCURATE_BYTES // 4)
    ends = sorted(offset for pair in ACCURATE_OFFSETS.values() for offset in pair)
    for number, offset in enumerate(ends, start=1):
        floats[offset], floats[offset - 1] = number, -number + 1
    del floats
    config = import_nyu_weights(source, tmp_path / "checkpoint")
    assert config.architecture == "accurate"
    assert sum(tensor.numel() for tensor in state.values()) == ACCURATE_BYTES // 4
    for name, offsets in ACCURATE_OFFSETS.items():
        for part, offset in zip(("weight", "bias"), offsets, strict=True):
            values = state[f"{name}.{part}"].flatten()
            assert values[0].item() == ends.index(offset) + 1, (name, part)
            last = offset + values.numel()
            if last in ends:
                assert values[-1].item() == -ends.index(last), (name, part)


@pytest.mark.parametrize("received", [0, 12, 145_920_872])
def test_a_file_of_another_size_is_refused_with_all_sizes(tmp_path, received):
    source = tmp_path / "net_weight_0"
    with source.open("wb") as file:
        file.truncate(received)
    with pytest.raises(WeightFileError) as error:
        import_nyu_weights(source, tmp_path / "checkpoint")
    message = describe(error)
    assert f"received {received:,} bytes" in message
    assert f"{FAST_BYTES:,} (fast) or {ACCURATE_BYTES:,} (accurate)" in message
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("off_by", [-4, -1, 1, 4])
def test_a_file_a_few_bytes_off_is_refused(tmp_path, off_by):
    source = tmp_path / "net_weight_1"
    with source.open("wb") as file:
        file.truncate(ACCURATE_BYTES + off_by)
    with pytest.raises(WeightFileError, match=f"{ACCURATE_BYTES + off_by:,} bytes"):
        import_nyu_weights(source, tmp_path / "checkpoint")


def test_a_number_that_is_not_finite_is_refused_with_the_tensors_name(tmp_path):
    source = tmp_path / "net_weight_1"
    source.touch()
    floats = np.memmap(source, dtype="<f4", mode="r+", shape=ACCURATE_BYTES // 4)
    floats[ACCURATE_OFFSETS["trunk.conv2"][0] + 5] = np.nan
    del floats
    with pytest.raises(WeightFileError) as error:
        import_nyu_weights(source, tmp_path / "checkpoint")
    assert "trunk.conv2.weight has 1 of 1,204,224 numbers that are not finite" in describe(error)
    assert not (tmp_path / "checkpoint").exists()


def test_a_missing_file_is_refused_with_the_names_of_the_released_ones(tmp_path):
    with pytest.raises(WeightFileError) as error:
        import_nyu_weights(tmp_path / "nowhere", tmp_path / "checkpoint")
    message = describe(error)
    assert str(tmp_path / "nowhere") in message
    assert "no such file; give net_weight_0 or net_weight_1" in message


def test_a_folder_is_no_weight_file(tmp_path):
    with pytest.raises(WeightFileError, match="no such file"):
        import_nyu_weights(tmp_path, tmp_path / "checkpoint")
