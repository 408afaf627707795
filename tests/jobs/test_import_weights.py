"""Does `import-weights` take the files of each source, and say what it made or why it did not?"""

from __future__ import annotations

import json

import pytest

import overfeat
from jobs.import_weights import ImportWeightsConfig
from tests.builders import run_command
from tests.overfeat.builders import make_image
from tests.overfeat.import_weights.torchvision_files import shrink_networks, write_network


@pytest.fixture(autouse=True)
def small_zoo(monkeypatch):
    shrink_networks(monkeypatch)


def run(source, path, output, *more):
    flags = ("--source", source, "--input", str(path), "--output", str(output))
    return run_command("import-weights", *flags, *more)


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_a_file_of_torchvision_becomes_a_model(tmp_path, name):
    path = write_network(tmp_path / "weights.pth", name)
    ended = run(f"torchvision-{name}", path, tmp_path / "model")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{name}, 1000 classes: {tmp_path / 'model'}\n"
    model = overfeat.load(tmp_path / "model", device="cpu")
    assert model.classify(make_image(224, 224)).labels


def test_the_result_is_json_too(tmp_path):
    path = write_network(tmp_path / "weights.pth")
    ended = run("torchvision-alexnet", path, tmp_path / "model", "--json")
    values = {"output": str(tmp_path / "model"), "architecture": "alexnet", "classes": 1000}
    assert json.loads(ended.out) == values


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("torchvision-vgg16", "this is torchvision's alexnet, expected vgg16"),
        ("nyu", "expected 583,683,488 (fast) or 578,625,952 (accurate)"),
        ("caffe", "nyu"),
    ],
)
def test_a_file_of_another_source_is_refused_and_nothing_is_left(tmp_path, source, words):
    path = write_network(tmp_path / "weights.pth")
    ended = run(source, path, tmp_path / "model")
    assert ended.code == 2
    assert words in ended.refusal()
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_is_a_file_is_refused_and_stays(tmp_path):
    path = write_network(tmp_path / "weights.pth")
    output = tmp_path / "model"
    output.write_text("mine")
    ended = run("torchvision-alexnet", path, output)
    assert ended.code == 2
    assert f"output {output}: is a file, expected a folder" in ended.refusal()
    assert output.read_text() == "mine"


def test_the_source_is_the_2014_program_unless_another_is_named(tmp_path):
    config = ImportWeightsConfig(input=tmp_path / "in", output=tmp_path / "out")
    assert config.source == "nyu"
