from __future__ import annotations

import io

import pytest
from PIL import Image

from pipelines.errors import InputError
from pipelines.sample_bucket import write_sample_bucket
from pipelines.shards.digit_scenes import TEST_SEED, make_scene
from pipelines.shards.photographs import PHOTOGRAPHS, find_photograph


def test_the_bucket_holds_the_first_scenes_of_the_test_set(tmp_path):
    assert write_sample_bucket(tmp_path, scenes=3, photographs=False) == 3

    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == ["scenes/test-000000.jpg", "scenes/test-000001.jpg", "scenes/test-000002.jpg"]
    expected = make_scene(split="test", seed=TEST_SEED, index=2).jpeg
    assert (tmp_path / "scenes/test-000002.jpg").read_bytes() == expected


def test_every_photograph_is_copied_untouched_and_opens(tmp_path):
    assert write_sample_bucket(tmp_path, scenes=0) == len(PHOTOGRAPHS)

    copies = sorted((tmp_path / "photographs").iterdir())
    assert [path.stem for path in copies] == sorted(PHOTOGRAPHS)
    for path in copies:
        data = path.read_bytes()
        assert data == find_photograph(path.stem).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode in {"RGB", "L"}
            image.load()


def test_a_negative_number_of_scenes_is_refused(tmp_path):
    with pytest.raises(InputError, match="scenes is -1"):
        write_sample_bucket(tmp_path, scenes=-1)
