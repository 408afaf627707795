"""Is every file that is not torchvision's network one clear error that leaves nothing behind?"""

from __future__ import annotations

import io
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from overfeat.import_weights import WeightFileError, import_torchvision_weights
from tests.overfeat.builders import describe
from tests.overfeat.import_weights.torchvision_files import (
    make_small_reference,
    shrink_networks,
    write_network,
    write_state,
)


@pytest.fixture(autouse=True)
def small_zoo(monkeypatch):
    shrink_networks(monkeypatch)


def refuse(source, *, architecture="alexnet"):
    """Try to import into a folder that holds something; hand back what is said of it."""
    folder = source.parent / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("mine")
    with pytest.raises(WeightFileError) as error:
        import_torchvision_weights(source, folder, architecture=architecture)
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("config.json", "mine")]
    message = describe(error)
    assert message.startswith(f"weights {source}: ")
    return message.removeprefix(f"weights {source}: ")


def change(**tensors):
    """A state dict with other tensors in place of some."""
    state = dict(make_small_reference("alexnet").state_dict())
    return state | {name.replace("__", "."): value for name, value in tensors.items()}


def drop(*names):
    state = make_small_reference("alexnet").state_dict()
    return {name: value for name, value in state.items() if name not in names}


def spoil(value):
    bias = torch.zeros(1000, dtype=torch.float64)
    bias[7] = value
    return change(classifier__6__bias=bias)


STATES = {
    "missing": (
        lambda: drop("features.3.bias"),
        "lacks features.3.bias, expected exactly the 16 tensors of torchvision's alexnet",
    ),
    "several missing": (
        lambda: drop("classifier.6.weight", "classifier.6.bias"),
        "lacks classifier.6.bias and 1 more, expected",
    ),
    "extra": (lambda: change(features__1__weight=torch.ones(64)), "also has features.1.weight"),
    "other names": (
        lambda: {"conv1.weight": torch.ones(3), "fc.bias": torch.ones(3)},
        "lacks classifier.1.bias and 15 more and also has conv1.weight and 1 more, expected",
    ),
    "empty": (dict, "lacks classifier.1.bias and 15 more, expected"),
    "ten classes": (
        lambda: change(classifier__6__weight=torch.ones(10, 64)),
        "classifier.6.weight is (10, 64), expected (1000, 64)",
    ),
    "a convolution": (
        lambda: change(classifier__1__weight=torch.ones(64, 4, 6, 6)),
        "classifier.1.weight is (64, 4, 6, 6), expected (64, 144)",
    ),
    "no axes": (
        lambda: change(features__0__bias=torch.tensor(1.0)),
        "features.0.bias is (), expected (4,)",
    ),
    "integers": (
        lambda: change(features__0__bias=torch.ones(4, dtype=torch.int8)),
        "features.0.bias is torch.int8, expected one of torch.float32, torch.float16",
    ),
    "complex": (
        lambda: change(features__0__bias=torch.ones(4, dtype=torch.complex64)),
        "features.0.bias is torch.complex64, expected one of",
    ),
    "a number": (lambda: change(features__0__bias=0.5), "features.0.bias is a float, expected"),
    "sparse": (
        lambda: change(features__0__bias=torch.ones(4).to_sparse()),
        "features.0.bias is a torch.sparse_coo tensor on cpu, expected a dense one",
    ),
    "without numbers": (
        lambda: change(features__0__bias=torch.ones(4, device="meta")),
        "features.0.bias is a torch.strided tensor on meta, expected a dense one with its numbers",
    ),
    "nan": (
        lambda: spoil(float("nan")),
        "classifier.6.bias has 1 of 1,000 numbers that are not finite",
    ),
    "infinite": (lambda: spoil(float("-inf")), "classifier.6.bias has 1 of 1,000 numbers"),
    "beyond float32": (lambda: spoil(1e300), "classifier.6.bias has 1 of 1,000 numbers"),
    "twice": (
        lambda: change() | {"module.features.0.bias": torch.ones(4)},
        "tensors are there twice, with and without `module.` in their name",
    ),
    "a list": (lambda: [torch.ones(3)], "received a list, expected a state dict"),
    "a tensor": (lambda: torch.ones(3), "received a Tensor, expected a state dict"),
    "nothing": (lambda: None, "received a NoneType, expected a state dict"),
    "numbered": (lambda: {0: torch.ones(3)}, "received a dict, expected a state dict"),
    "wrapped nothing": (
        lambda: {"state_dict": None, "epoch": 3},
        "lacks classifier.1.bias and 15 more and also has epoch and 1 more",
    ),
}


@pytest.mark.parametrize(("make", "words"), STATES.values(), ids=STATES)
def test_what_is_wrong_with_a_state_dict_is_said_with_the_tensors_name(tmp_path, make, words):
    assert words in refuse(write_state(tmp_path / "weights.pth", make()))


@pytest.mark.parametrize(("given", "asked"), [("vgg16", "alexnet"), ("alexnet", "vgg16")])
def test_the_other_network_is_named(tmp_path, given, asked):
    message = refuse(write_network(tmp_path / "weights.pth", given), architecture=asked)
    advice = f"import it as torchvision-{given}"
    assert message == f"this is torchvision's {given}, expected {asked}; {advice}"


def test_a_whole_model_is_refused_with_what_to_save_instead(tmp_path):
    message = refuse(write_state(tmp_path / "model.pth", make_small_reference("alexnet")))
    assert "holds more than tensors" in message
    assert "save model.state_dict() rather than the model" in message


class Touch:
    """What a hostile pickle does: it runs a function of its choice while it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": {"features.0.bias": x}}])
def test_nothing_in_a_file_is_run(tmp_path, wrap):
    victim = tmp_path / "victim"
    message = refuse(write_state(tmp_path / "weights.pth", wrap(Touch(victim))))
    assert "holds more than tensors" in message
    assert not victim.exists()
    assert pickle.loads(pickle.dumps(Touch(victim))) is None
    assert victim.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"hello\n" * 99, b"\x89PNG\r\n\x1a\n" * 9, b"PK\3\4"]
)
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    source = tmp_path / "weights.pth"
    source.write_bytes(content)
    message = refuse(source)
    assert "torch.save wrote; copy it again" in message or "expected a state dict" in message


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before zip"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path, is_zip, part):
    source = write_state(tmp_path / "weights.pth", change(), _use_new_zipfile_serialization=is_zip)
    source.write_bytes(source.read_bytes()[: int(part * source.stat().st_size)])
    assert "expected a" in refuse(source)


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (b"K\x03K\x01", b"\x8a\x0c" + b"\xff" * 11 + b"\x01" + b"K\x01", "TypeError"),
        (b"ctorch\nFloatStorage", b"ctorch._utils\n_rebuild_tensor_v2", "AttributeError"),
    ],
    ids=["a size beyond 64 bits", "a function for a storage"],
)
def test_a_pickle_with_wrong_words_in_a_whole_zip_is_refused(tmp_path, old, new, kind):
    source = write_state(tmp_path / "whole.pth", {"features.0.weight": torch.ones(2, 3)})
    with zipfile.ZipFile(source) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in records if name.endswith("data.pkl"))
    assert old in records[pickled]
    records[pickled] = records[pickled].replace(old, new)
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    assert f"cannot be read ({kind})" in refuse(tmp_path / "weights.pth")


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before zip"])
def test_no_damage_is_anything_but_a_weight_file_error(tmp_path, is_zip):
    """200 files with wrong bytes or a cut end: torch raises a dozen kinds of errors over them."""
    whole = io.BytesIO()
    state = {"features.0.bias": torch.ones(2), "features.0.weight": torch.ones(2, 2)}
    torch.save(state, whole, _use_new_zipfile_serialization=is_zip)
    dice = random.Random(7)
    source = tmp_path / "weights.pth"
    for _ in range(200):
        content = bytearray(whole.getvalue())
        for _ in range(dice.choice((1, 1, 2, 5))):
            content[dice.randrange(len(content))] = dice.randrange(256)
        source.write_bytes(content[: dice.choice((len(content), dice.randrange(len(content))))])
        with pytest.raises(WeightFileError) as error:
            import_torchvision_weights(source, tmp_path / "checkpoint", architecture="alexnet")
        describe(error)
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("name", ["nowhere.pth", "."])
def test_a_missing_file_is_refused_with_what_to_give(tmp_path, name):
    with pytest.raises(WeightFileError) as error:
        import_torchvision_weights(tmp_path / name, tmp_path / "checkpoint", architecture="vgg16")
    assert "no such file; give the .pth file of torchvision's vgg16" in describe(error)
    assert not (tmp_path / "checkpoint").exists()
