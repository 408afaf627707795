"""torchvision's files: what is read from them, in which wrappings, and that the networks agree."""

from __future__ import annotations

import shutil
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import overfeat
from overfeat.checkpoint import WEIGHTS_FILE, read_config
from overfeat.import_weights import import_torchvision_weights, read_imagenet_classes, torchvision
from overfeat.zoo import ALEXNET, ARCHITECTURES
from tests.overfeat.builders import make_image
from tests.overfeat.import_weights.torchvision_files import (
    make_small_reference,
    shrink_networks,
    write_network,
    write_state,
)
from tests.overfeat.reference_networks import make_reference, randomise

NETWORKS = ("alexnet", "vgg16")
small_networks = pytest.mark.usefixtures("small_zoo")


@pytest.fixture
def small_zoo(monkeypatch):
    shrink_networks(monkeypatch)


def classify_like_torchvision(reference, image):
    """The logits of an image that needs no resizing: 0 to 1, then torchvision's two constants."""
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    with torch.no_grad():
        return reference(((pixels - mean) / std)[None])[0].numpy()


def assert_same_logits(folder, reference):
    model = overfeat.load(folder, device="cpu")
    image = make_image(224, 224)
    logits = model.extract(image, layer="fc8")
    expected = classify_like_torchvision(reference, image)
    assert logits.shape == (1000, 1, 1)
    assert np.abs(logits[:, 0, 0] - expected).max() <= 1e-4 * np.abs(expected).max()


@small_networks
@pytest.mark.parametrize("name", NETWORKS)
def test_an_imported_network_says_what_torchvisions_own_says(tmp_path, name):
    source = write_network(tmp_path / "weights.pth", name)
    import_torchvision_weights(source, tmp_path / "checkpoint", architecture=name)
    assert_same_logits(tmp_path / "checkpoint", make_small_reference(name))


def test_alexnet_at_full_width_says_what_torchvisions_own_says(tmp_path):
    """Half a gigabyte of files, gone when the test ends."""
    reference = randomise(make_reference("alexnet"))
    try:
        source = write_state(tmp_path / "alexnet.pth", reference.state_dict())
        import_torchvision_weights(source, tmp_path / "checkpoint", architecture="alexnet")
        assert_same_logits(tmp_path / "checkpoint", reference)
    finally:
        shutil.rmtree(tmp_path)


def test_vgg16_at_full_width_has_a_place_for_every_tensor(tmp_path, monkeypatch):
    """Tensors of one repeated number each, so that the file is small and every shape is real."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in make_reference("vgg16").state_dict().items()}
    state = {
        key: torch.full((1,), float(number)).expand(shape)
        for number, (key, shape) in enumerate(shapes.items(), start=1)
    }
    imported = {}
    monkeypatch.setattr(
        torchvision, "save_checkpoint", lambda _folder, _config, found: imported.update(found)
    )
    source = write_state(tmp_path / "weights.pth", state)
    import_torchvision_weights(source, tmp_path / "checkpoint", architecture="vgg16")
    assert sum(tensor.numel() for tensor in imported.values()) == 138_357_544
    # torchvision's order is ours: trunk, then classifier, weight before bias.
    numbers = [tensor.flatten()[-1].item() for tensor in imported.values()]
    assert numbers == list(range(1, 33))
    assert imported["classifier.fc6.weight"].shape == (4096, 512, 7, 7)


@small_networks
@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_says_where_it_comes_from_and_what_its_classes_are(tmp_path, name):
    source = write_network(tmp_path / "weights.pth", name)
    config = import_torchvision_weights(source, tmp_path / "checkpoint", architecture=name)
    assert config == read_config(tmp_path / "checkpoint")
    assert config.architecture == name
    assert config.classes == read_imagenet_classes("sorted-wnid")
    assert config.normalization.mean == pytest.approx([255 * x for x in (0.485, 0.456, 0.406)])
    assert config.normalization.std == pytest.approx([255 * x for x in (0.229, 0.224, 0.225)])
    assert (config.background, config.regressor, config.context) == (False, "none", False)
    assert config.ladder == ARCHITECTURES[name].scales
    assert config.provenance == {
        "source": f"torchvision-{name}",
        "file": "weights.pth",
        "bytes": source.stat().st_size,
    }


def prefix(state, old, new):
    return {key.replace(old, new, 1): value for key, value in state.items()}


WRAPPINGS = {
    "ordered": OrderedDict,
    "under state_dict": lambda state: {"epoch": 3, "arch": "alexnet", "state_dict": state},
    "data parallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "trunk data parallel": lambda state: prefix(state, "features.", "features.module."),
    "both": lambda state: {"state_dict": prefix(state, "", "module."), "best_acc1": 56.5},
    "parameters": lambda state: {key: nn.Parameter(value) for key, value in state.items()},
    "double": lambda state: {key: value.double() for key, value in state.items()},
    "another order": lambda state: dict(reversed(state.items())),
    "transposed": lambda state: {
        key: value.t().contiguous().t() if value.dim() == 2 else value
        for key, value in state.items()
    },
    "channels last": lambda state: {
        key: value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
        for key, value in state.items()
    },
}


def import_state(folder, state, **options):
    source = write_state(folder / "weights.pth", state, **options)
    import_torchvision_weights(source, folder / "checkpoint", architecture="alexnet")
    return load_file(folder / "checkpoint" / WEIGHTS_FILE)


@pytest.fixture
def plain_tensors(small_zoo, tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    return import_state(folder, dict(make_small_reference("alexnet").state_dict()))


def assert_same_tensors(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_a_state_dict_is_found_however_it_was_saved(tmp_path, plain_tensors, wrap):
    state = wrap(dict(make_small_reference("alexnet").state_dict()))
    assert_same_tensors(import_state(tmp_path, state), plain_tensors)


def test_a_file_in_the_format_before_zip_is_read_too(tmp_path, plain_tensors):
    state = make_small_reference("alexnet").state_dict()
    found = import_state(tmp_path, state, _use_new_zipfile_serialization=False)
    assert_same_tensors(found, plain_tensors)


def test_tensors_that_are_one_in_the_file_are_two_in_the_checkpoint(tmp_path, small_zoo):
    state = make_small_reference("alexnet").state_dict()
    state["features.10.bias"] = state["features.8.bias"]
    found = import_state(tmp_path, state)
    assert torch.equal(found["trunk.conv5.bias"], found["trunk.conv4.bias"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tmp_path, plain_tensors, dtype):
    state = {
        key: value.to(dtype) for key, value in make_small_reference("alexnet").state_dict().items()
    }
    rounded = {name: tensor.to(dtype).float() for name, tensor in plain_tensors.items()}
    assert_same_tensors(import_state(tmp_path, state), rounded)


def test_the_linear_layers_are_convolutions_over_channels_rows_columns(plain_tensors):
    linear = make_small_reference("alexnet").classifier[1].weight
    kernel = plain_tensors["classifier.fc6.weight"]
    channels = kernel.shape[1]
    assert kernel.shape[2:] == (6, 6)
    for channel, row, col in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (channels - 1, 5, 5)):
        assert torch.equal(kernel[:, channel, row, col], linear[:, 36 * channel + 6 * row + col])


def test_the_zoo_is_what_it_was():
    """The small networks of these tests do not outlive them."""
    assert ARCHITECTURES["alexnet"] is ALEXNET
