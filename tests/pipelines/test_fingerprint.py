"""Is the fingerprint the same for equal settings, in every process, and for no others?"""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import RunMismatchError
from pipelines.fingerprint import (
    compute_fingerprint,
    encode_canonically,
    refuse_other_settings,
)

FEW = settings(max_examples=50, deadline=None, derandomize=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)  # fmt: skip


def test_a_known_fingerprint_is_the_same_in_every_process():
    given_settings = {"flips": False, "scales": ["245x245"], "score_threshold": 0.3, "name": "é"}
    assert compute_fingerprint(given_settings) == "a68660125a1c85c7"


@FEW
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_the_order_of_settings_does_not_matter(values):
    turned = dict(reversed(values.items()))
    assert compute_fingerprint(turned) == compute_fingerprint(values)


@FEW
@given(VALUES)
def test_canonical_json_says_what_it_was_given(value):
    assert json.loads(encode_canonically(value)) == value


@FEW
@given(VALUES, VALUES)
def test_different_values_have_different_fingerprints(one, other):
    same = encode_canonically(one) == encode_canonically(other)
    assert (compute_fingerprint({"x": one}) == compute_fingerprint({"x": other})) == same


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes"])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(TypeError):
        encode_canonically({"x": value})


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        encode_canonically({"x": value})


def test_equal_settings_pass_after_their_way_through_json():
    wanted = {"scales": ("1x1", "2x2"), "merge": {"limit": 0.5}, "limit": None}
    found = json.loads(json.dumps(wanted))
    refuse_other_settings("out", found=found, wanted=wanted)


def test_every_differing_setting_is_named_with_both_values():
    found = {"flips": False, "scales": ["1x1"], "same": 1, "gone": "x"}
    wanted = {"flips": True, "scales": ["2x2"], "same": 1, "new": 5}
    with pytest.raises(RunMismatchError) as error:
        refuse_other_settings("s3://b/out", found=found, wanted=wanted)
    message = str(error.value)
    assert message.startswith("s3://b/out holds a run with another configuration: ")
    for part in (
        "flips (there: false, here: true)",
        'scales (there: ["1x1"], here: ["2x2"])',
        'gone (there: "x", here: missing)',
        "new (there: missing, here: 5)",
    ):
        assert part in message
    assert "same" not in message.replace("same settings", "")
    assert error.value.exit_code == 2


def read_refusal(found, wanted, **options):
    """What is said to differ."""
    with pytest.raises(RunMismatchError) as error:
        refuse_other_settings("out", found=found, wanted=wanted, **options)
    return str(error.value).split("configuration: ")[1].split("; use the same")[0]


NESTED = {
    "seed": 0,
    "recipe": {"epochs": 6, "crops": {"side": 245, "flip": 0.5}, "loss": {"weight": 1.0}},
    "other": {"weight": 1.0},
}


def change(settings, **recipe):
    return settings | {"recipe": settings["recipe"] | recipe}


def test_of_nested_settings_only_those_that_differ_are_named():
    wanted = change(NESTED, epochs=8, crops={"side": 317, "flip": 0.5})
    assert read_refusal(NESTED, wanted) == (
        "recipe.crops.side (there: 245, here: 317), recipe.epochs (there: 6, here: 8)"
    )


def test_settings_that_are_flags_are_called_as_the_command_calls_them():
    wanted = change(NESTED, epochs=8, loss={"weight": 2.0})
    assert read_refusal(NESTED, wanted, are_flags=True) == (
        "epochs (there: 6, here: 8), recipe.loss.weight (there: 1.0, here: 2.0)"
    )


def test_nested_settings_that_one_side_has_not_are_told():
    wanted = change(NESTED, epochs=None, crops={"side": 245}, warm_up=None)
    assert read_refusal(NESTED, wanted) == (
        "recipe.crops.flip (there: 0.5, here: missing), recipe.epochs (there: 6, here: null), "
        "recipe.warm_up (there: missing, here: null)"
    )
    gone = {name: NESTED[name] for name in ("seed", "recipe")}
    assert read_refusal(NESTED, gone) == "other.weight (there: 1.0, here: missing)"


@FEW
@given(*[st.dictionaries(st.text(max_size=2), VALUES, max_size=3)] * 2, st.booleans())
def test_what_is_refused_names_a_setting_and_what_is_not_has_one_fingerprint(
    found, wanted, are_flags
):
    # A setting that is null is one that an earlier version did not know.
    known = [{n: v for n, v in one.items() if v is not None} for one in (found, wanted)]
    if compute_fingerprint(known[0]) == compute_fingerprint(known[1]):
        refuse_other_settings("out", found=found, wanted=wanted, are_flags=are_flags)
    else:
        assert "(there: " in read_refusal(found, wanted, are_flags=are_flags)
