"""Is an image left out for good because credentials could not read it for a while?"""

from __future__ import annotations

import pytest

from pipelines import storage
from pipelines.errors import ImageError, ImageReason, StorageError
from tests.pipelines.shards.packed import digest_shards
from tests.pipelines.shards.test_run import build_folders, pack_folders


def test_a_job_that_was_denied_its_images_leaves_none_out(tmp_path, monkeypatch):
    data = build_folders(tmp_path / "in")
    denied = ImageError(ImageReason.ACCESS_DENIED, "s3://b/a: access denied")
    with monkeypatch.context() as patched:
        patched.setattr(storage, "read_objects", lambda infos, **_: [denied for _ in infos])
        with pytest.raises(StorageError, match="access denied"):
            pack_folders(data, tmp_path / "out")
    assert not (tmp_path / "out" / "index.json").exists()

    assert pack_folders(data, tmp_path / "out").reasons == {"truncated": 1}
    pack_folders(data, tmp_path / "fresh")
    assert digest_shards(tmp_path / "out") == digest_shards(tmp_path / "fresh")
