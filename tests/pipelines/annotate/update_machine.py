"""A bucket that changes, runs that are killed, updates and retries: against a model of plain dicts.

The program is the real `annotate` but for Ray and the arithmetic of the network; time stands still
for the disk (nothing is synced), and a kill is an exception that nothing catches, at any write. All
that any process has put may be put once more at any later moment: by one that had been paused.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from pipelines import lease, storage
from pipelines.annotate import run, run_file
from pipelines.annotate.kept import RowsChangedError
from pipelines.annotate.preview import preview
from pipelines.compact import CompactConfig, compact
from pipelines.comparison import Changes
from pipelines.errors import ImageError, ImageReason, InputError
from pipelines.manifest import open_manifest
from pipelines.receipts import find_committed
from pipelines.storage import OvertakenError
from tests import builders
from tests.builders import list_all, make_config, read_rows
from tests.pipelines.annotate.fake_model import FakeModel, predict_one
from tests.pipelines.annotate.plain_engine import install_plain_engine
from tests.pipelines.annotate.update_model import Bucket, Model, draw_pixels
from tests.pipelines.annotate.zombies import Zombies

SLICE_SIZE = 3
NAMES = [f"{letter}.png" for letter in "abcdefghijklmno"]
_OK = "ok"


class Killed(BaseException):
    """The process ended here: nothing may catch it, and nothing that follows may reach the disk."""


class Invocation:
    """One command under observation: what it reads and puts, until it is killed."""

    def __init__(self, model, patch, *, config, kill_at, after, zombies, zombie):
        self.model, self.config = model, config
        self.zombies, self.zombie = zombies, zombie
        self.left, self.after = kill_at, after
        self.is_dead = False
        self.outcomes = {}
        self.changes = None
        self._real = {name: getattr(storage, name) for name in _OBSERVED}
        for name in _OBSERVED:
            patch.setattr(storage, name, getattr(self, name))

    def write_bytes(self, uri, data, **options):
        self._guard(uri, lambda: self._real["write_bytes"](uri, data, **options), data)

    def create_bytes(self, uri, data, **options):
        create = self._real["create_bytes"]
        if Path(uri).exists():
            return create(uri, data, **options)
        return self._guard(uri, lambda: create(uri, data, **options), data)

    def delete(self, uris):
        if not self.is_dead:
            self._real["delete"](uris)

    def read_objects(self, objects, **options):
        names = [Path(info.uri).name for info in objects]
        # No image is read twice in a generation, and none of a committed slice.
        assert not self.outcomes.keys() & set(names)
        assert set(names) <= self.model.may_read(), "an image was read that has its row"
        self.outcomes |= {name: self.model.outcome(name) for name in names}
        answers = self._real["read_objects"](objects, **options)
        lost = ImageError(ImageReason.UNAVAILABLE, "the store did not answer")
        unreachable = self.model.bucket.unreachable
        return [
            lost if name in unreachable else answer
            for name, answer in zip(names, answers, strict=True)
        ]

    def _guard(self, uri, write, data):
        """Write, or die before it or after it."""
        if uri.endswith(lease.LEASE_FILE):
            # The heartbeat's own thread writes it: when, is left to chance.
            return None if self.is_dead else write()
        self._let_zombie_put(uri)
        self.left -= 1
        if self.left == 0 and not self.after:
            self._die()
        answer = write()
        self._note(uri, data)
        if self.left == 0:
            self._die()
        return answer

    def _let_zombie_put(self, uri):
        """An old process puts an object while this command is about to put one of a slice."""
        is_begun = self.changes is not None or not (self.config.update or self.config.retry_failed)
        if self.zombie is None or not is_begun or Path(uri).suffix != ".parquet":
            return
        which, left = self.zombie
        self.zombie = (which, left - 1) if left else None
        if not left:
            self.zombies.put(self.model, which, self._real["write_bytes"])

    def _die(self):
        self.is_dead = True
        raise Killed

    def _note(self, uri, data):
        """Let the model follow what stands on disk now."""
        path = Path(uri)
        if path.name == "complete.json" and path.parent.name == "generation-000000":
            self.model.begin_first()
        elif path.name == "complete.json":
            asked = {"update": self.config.update, "retry_failed": self.config.retry_failed}
            self.changes = self.model.plan(**asked)[-1]
            self.model.begin_next(**asked)
            self.outcomes = {}
        elif path.parent.name != "images":
            self.zombies.note(uri, data)
        else:
            self.zombies.note(uri, data)
            images = pq.read_table(pa.BufferReader(data))["image"].to_pylist()
            number = int(path.stem.removeprefix("slice-"))
            self.model.commit(number, {Path(image).name for image in images}, self.outcomes)


_OBSERVED = ("write_bytes", "create_bytes", "delete", "read_objects")

steps = st.sampled_from(["put", "put", "put", "spoil", "remove", "remove first", "lose or mend"])
changes = st.lists(st.tuples(steps, st.sampled_from(NAMES)), max_size=6)
flags = st.sampled_from([(True, True), (True, False), (False, True), (False, False)])
"""`--update` and `--retry-failed`."""


class UpdateMachine(RuleBasedStateMachine):
    """Change the bucket, run, kill; whenever a command has ended well, everything is checked."""

    checkpoint = None
    """Folder of a checkpoint: it decides no row here, but a run has one."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", lambda _: None)
        self.patch.setattr(storage, "supports_create_if_absent", lambda *_, **__: True)
        self.patch.setattr(lease, "DEFAULT_TIMES", lease.LeaseTimes(heartbeat=0.01, lease=0.02))
        # What takes long and is the same each time.
        self.patch.setattr(run, "fetch_model", builders._fetch_once)
        self.patch.setattr(run_file, "describe_versions", dict)
        install_plain_engine(self.patch, FakeModel())
        self.config = make_config(self.folder.name, self.checkpoint, slice_size=SLICE_SIZE)
        self.bucket = Bucket(self.config.images)
        self.model = Model(self.bucket)
        self.zombies = Zombies(self.config.output)
        for name in NAMES[::3]:
            self.bucket.put(name)

    def teardown(self):
        self.patch.undo()
        self.folder.cleanup()

    # One rule, not several: hypothesis leaves out some of several in each example.
    @rule(
        steps=changes,
        asked=flags,
        kill=st.none() | st.tuples(st.integers(1, 14), st.booleans()),
        copy=st.none() | st.integers(0, 4),
        zombie=st.none() | st.tuples(st.integers(0, 40), st.integers(0, 5)),
        is_early=st.booleans(),
    )
    def change_and_run(self, steps, asked, kill, copy, zombie, is_early):
        """Images come, change, break and go; then a command ends well, or is killed at a write.

        A process that was paused puts an old object once more, before the command or during it.

        Then the run may be copied, by a command that may have been killed at a write before.
        """
        for step, name in steps:
            if step == "lose or mend":
                self.bucket.unreachable ^= {name}
            elif not step.startswith("remove"):
                self.bucket.put(name, is_image=step == "put")
            elif step == "remove":
                self._remove([name])
            else:
                self._remove(sorted(self.bucket.versions)[:SLICE_SIZE])
        kill_at, after = kill or (0, False)
        if is_early and zombie is not None:
            self.zombies.put(self.model, zombie[0], storage.write_bytes)
            zombie = None
        self._invoke(*asked, kill_at=kill_at, after=after, zombie=zombie)
        if copy is not None:
            self._copy(kill_at=copy)

    def _copy(self, *, kill_at):
        """A copy has the rows of its run as it is now, and an unfinished run has none.

        What was copied before stands there: it is called done, or refused.
        """
        config = CompactConfig(output=self.config.output, to=f"{self.folder.name}/copy")
        before = list_all(self.config.output)
        manifest = open_manifest(self.config.output)
        is_finished = manifest and len(find_committed(manifest)) == manifest.summary.slices
        if kill_at:
            with suppress(Killed, InputError), pytest.MonkeyPatch.context() as patch:
                _kill_at_write(patch, kill_at)
                compact(config)
        if is_finished:
            try:
                compact(config)
            except InputError:
                # Of the run as it was.
                shutil.rmtree(config.to)
                compact(config)
            for table in ("images", "boxes"):
                assert read_rows(config.to, table).equals(read_rows(config.output, table))
        else:
            with pytest.raises(InputError):
                compact(config)
        assert list_all(self.config.output) == before

    def _remove(self, names):
        """The last image stays: an empty bucket is refused."""
        for name in names:
            if name in self.bucket.versions and len(self.bucket.versions) > 1:
                self.bucket.remove(name)

    def _invoke(self, update, retry_failed, *, kill_at, after, zombie):
        config = replace(self.config, update=update, retry_failed=retry_failed)
        before = list_all(self.folder.name)
        plan, _ = preview(config, config.output)
        assert list_all(self.folder.name) == before
        with pytest.MonkeyPatch.context() as patch:
            invocation = Invocation(
                self.model,
                patch,
                config=config,
                kill_at=kill_at,
                after=after,
                zombies=self.zombies,
                zombie=zombie,
            )
            puts = self.zombies.puts
            try:
                report = run.annotate(config)
            except Killed:
                self._check_tables_are_whole()
            except (OvertakenError, RowsChangedError):
                assert self.zombies.puts > puts
            else:
                if self.zombies.puts == puts:
                    self._check_report(report, invocation)
                    self._check_preview(plan, report)
                    self._check_finished()
                    self.model.hit.clear()

    def _check_report(self, report, invocation):
        found = self.model.rows.values()
        reasons = Counter(found for found in found if isinstance(found, str))
        assert report.images == len(self.model.rows)
        assert report.errors == reasons
        assert report.boxes == sum(len(boxes) for boxes in self._expected_boxes().values())
        asked = {name: getattr(invocation.config, name) for name in ("update", "retry_failed")}
        if not any(asked.values()):
            assert report.changes is None
        else:
            assert report.changes == (invocation.changes or Changes())

    def _check_preview(self, plan, report):
        """What was foretold came true, but for what nobody knew: which of the images left fail."""
        if report.changes is not None and plan.slices_unfinished:
            return
        assert (plan.images, plan.slices) == (report.images, report.slices)
        assert plan.images_to_read == report.images_read
        assert plan.slices_to_write == report.slices_done
        assert plan.changes == report.changes

    def _check_finished(self):
        """Every image of the manifest has one row, of the version that was done last."""
        assert not self.model.todo
        assert self.model.rows.keys() == self.model.listed.keys()
        images = read_rows(self.config.output, "images").to_pylist()
        found = {Path(row["image"]).name: row for row in images}
        assert len(found) == len(images)
        assert found.keys() == self.model.rows.keys()
        expected_boxes = self._expected_boxes()
        for name, row in found.items():
            self._check_row(row, self.model.rows[name], len(expected_boxes.get(name, ())))
            assert row["slice"] == self.model.slices[name]
        assert self._found_boxes() == expected_boxes

    def _check_row(self, row, outcome, n_boxes):
        is_ok = not isinstance(outcome, str)
        assert (row["status"], row["error_type"]) == ((_OK, None) if is_ok else ("error", outcome))
        assert row["n_boxes"] == n_boxes
        if is_ok:
            best = predict_one(draw_pixels(outcome)).classification
            assert (row["labels"], row["scores"]) == (list(best.labels), best.scores.tolist())
            assert (row["height"], row["width"]) == (6, 8)
        else:
            assert (row["labels"], row["scores"]) == ([], [])

    def _expected_boxes(self):
        """Score and corners of the boxes of each image that is ok and has some."""
        boxes = {}
        for name, outcome in self.model.rows.items():
            if not isinstance(outcome, str):
                found = predict_one(draw_pixels(outcome)).detections
                corners = zip(found.scores.tolist(), found.boxes_xyxy.tolist(), strict=True)
                boxes[name] = [(score, *box) for score, box in corners]
        return {name: found for name, found in boxes.items() if found}

    def _found_boxes(self):
        boxes = {}
        columns = ("score", "x_min", "y_min", "x_max", "y_max")
        for row in read_rows(self.config.output, "boxes").to_pylist():
            found = boxes.setdefault(Path(row["image"]).name, [])
            assert row["box"] == len(found)
            found.append(tuple(row[column] for column in columns))
        return boxes

    def _check_tables_are_whole(self):
        """Also after a kill no image stands twice in a table."""
        if self.model.hit:
            return
        for table, keys in (("images", ["image"]), ("boxes", ["image", "box"])):
            if storage.list_names(storage.join_uri(self.config.output, table)):
                rows = [tuple(row.values()) for row in _select(self.config.output, table, keys)]
                assert len(rows) == len(set(rows))


def _kill_at_write(patch, number):
    """Let a command die after so many writes; 0 for none."""
    write_bytes, left = storage.write_bytes, number

    def write_or_die(uri, *args, **options):
        nonlocal left
        write_bytes(uri, *args, **options)
        # The heartbeat's own thread writes the lease: when, is left to chance.
        if uri.endswith(lease.LEASE_FILE):
            return
        left -= 1
        if left == 0:
            raise Killed

    patch.setattr(storage, "write_bytes", write_or_die)


def _select(output, table, columns):
    return read_rows(output, table).select(columns).to_pylist()
