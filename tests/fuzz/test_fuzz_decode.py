"""The fuzz target without atheris, which is no dependency: what it starts from."""

from __future__ import annotations

from tests.fuzz.fuzz_decode import MAX_SEED_BYTES, fill_corpus
from tests.pipelines.images.image_files import every_kind_of_file


def test_an_empty_corpus_is_filled_with_every_kind_and_a_full_one_left_alone(tmp_path):
    fill_corpus(tmp_path / "corpus")
    files = {path.name: path.read_bytes() for path in (tmp_path / "corpus").iterdir()}
    assert set(every_kind_of_file().values()) <= set(files.values())
    assert len(files) > 100
    assert max(map(len, files.values())) <= MAX_SEED_BYTES
    (tmp_path / "corpus" / "png").unlink()
    fill_corpus(tmp_path / "corpus")
    assert len([*(tmp_path / "corpus").iterdir()]) == len(files) - 1
