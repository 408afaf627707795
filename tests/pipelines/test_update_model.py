"""Any sequence of listings gives the manifest that a model of plain dictionaries has."""

from __future__ import annotations

import random
import tempfile
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import comparison, lookup
from pipelines.comparison import Changes
from pipelines.manifest import ManifestSummary, read_summary
from tests.builders import list_all
from tests.pipelines.manifest.updates import SLICE_SIZE, begin, look_again, make_info, read_todo
from tests.pipelines.manifest.written import read_back

FEW = settings(max_examples=20, deadline=None, derandomize=True)
VERSIONS = ("1", "1", "1", "2", "3", "")
LETTERS = "abcdefghij"


class Step(NamedTuple):
    """What happens between two generations."""

    listing: dict[str, str]
    """Name -> version: all that the store holds now, in the order of its listing."""
    failing: frozenset[str]
    """Names of images that are to be done again, as far as they are in the run."""
    is_retry_alone: bool
    """Whether the store is only asked for the failed ones."""


class Model:
    """A run's manifest as a list of dictionaries, one a slice: name -> version."""

    def __init__(self, listing):
        self.slices = []
        self.generation = 0
        self.touched = self._add(listing)
        self.todo = set(listing)

    @property
    def versions(self):
        return {name: version for of in self.slices for name, version in of.items()}

    def find(self, names):
        """Some images by slice."""
        found = {n: {x for x in of if x in names} for n, of in enumerate(self.slices)}
        return {number: names for number, names in found.items() if names}

    def update(self, listing, failing):
        known = self.versions
        vanished = known.keys() - listing.keys()
        changed = {x for x in known.keys() - vanished if listing[x] not in {"", known[x]}}
        added = {x: version for x, version in listing.items() if x not in known}
        return self._close(listing, added, changed, vanished, failing & known.keys())

    def retry(self, store, failing):
        known = self.versions
        changed = {x for x in failing & known.keys() if store.get(x) not in {None, "", known[x]}}
        return self._close(store, {}, changed, set(), failing & known.keys())

    def _close(self, versions, added, changed, vanished, failed):
        retried = failed - vanished - changed
        touched = self.find(changed | vanished | failed).keys()
        for of in self.slices:
            for name in vanished & of.keys():
                del of[name]
            of |= {name: versions[name] for name in changed & of.keys()}
        touched |= self._add(added)
        if touched:
            self.generation += 1
            self.touched = touched
            self.todo = added.keys() | changed | (failed - vanished)
        return Changes(
            added=len(added),
            changed=len(changed - retried),
            vanished=len(vanished),
            retried=len(retried),
        )

    def _add(self, listing):
        before = len(self.slices)
        names = list(listing)
        for start in range(0, len(names), SLICE_SIZE):
            self.slices.append({name: listing[name] for name in names[start : start + SLICE_SIZE]})
        return set(range(before, len(self.slices)))


def assert_manifest_is(output, model):
    """All that a manifest says is what the model says."""
    entries = read_back(output)
    assert [[entry.info for entry in entries[number]] for number in sorted(entries)] == [
        [make_info(name, of[name]) for name in sorted(of)] for of in model.slices
    ]
    assert read_todo(output) == (model.todo, model.touched)
    versions = model.versions.values()
    assert replace(read_summary(output), parts=()) == ManifestSummary(
        generation=model.generation,
        slices=len(model.slices),
        images=len(versions),
        size_bytes=sum(10 for version in versions if version),
        skipped=0,
        touched=len(model.touched),
        todo=len(model.todo),
        parts=(),
    )


def play(output, first, steps):
    """Write a run and its updates, comparing with the model after each."""
    model = Model(first)
    begin(output, [make_info(name, version) for name, version in first.items()])
    assert_manifest_is(output, model)
    for step in steps:
        before = list_all(output)
        failed = model.find(step.failing)
        failed = {number: {f"s3://b/{x}" for x in names} for number, names in failed.items()}
        infos = [make_info(name, version) for name, version in step.listing.items()]
        if step.is_retry_alone:
            expected = model.retry(step.listing, step.failing)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(lookup, "_look_up", {info.uri: info for info in infos}.get)
                changes = look_again(output, None, failed)
        else:
            expected = model.update(step.listing, step.failing)
            changes = look_again(output, infos, failed)
        assert changes == expected
        assert (list_all(output) == before) == (changes == Changes())
        assert_manifest_is(output, model)


def listings(min_size=0):
    versions = st.lists(st.sampled_from(VERSIONS), min_size=min_size, max_size=len(LETTERS))
    return st.builds(
        lambda names, versions: dict(zip(names, versions, strict=False)),
        st.permutations(LETTERS),
        versions,
    )


STEPS = st.lists(
    st.builds(
        Step,
        listing=listings(),
        failing=st.frozensets(st.sampled_from(LETTERS), max_size=4),
        is_retry_alone=st.sampled_from([False, False, True]),
    ),
    min_size=1,
    max_size=4,
)


@FEW
@given(first=listings(min_size=1), steps=STEPS)
def test_any_sequence_of_updates_agrees_with_the_model(first, steps):
    with tempfile.TemporaryDirectory() as folder:
        play(folder, first, steps)


@settings(FEW, max_examples=6)
@given(first=listings(min_size=1), steps=STEPS)
def test_names_whose_digests_begin_alike_are_told_apart(first, steps):
    digest = comparison.digest_names
    mask = np.array([1, 2**64 - 1], np.uint64)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(comparison, "digest_names", lambda names: digest(names) & mask)
        play(folder, first, steps)


@pytest.mark.s3
def test_updates_on_an_object_store_agree_with_the_model(s3_bucket):
    draw = random.Random(1)
    listings = [
        {x: draw.choice(VERSIONS) for x in draw.sample(LETTERS, draw.randint(3, len(LETTERS)))}
        for _ in range(5)
    ]
    failing = [frozenset(draw.sample(LETTERS, 3)) for _ in listings]
    steps = map(Step, listings[1:], failing, [False, True, False, False])
    play(f"s3://{s3_bucket}/out", listings[0], steps)
