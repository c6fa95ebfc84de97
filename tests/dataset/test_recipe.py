"""What names a version, and what does not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from releases import FIXTURES, copy_of_root, version_of

from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan, read_plan
from embedkit.dataset.recipe import (
    fingerprint,
    fingerprint_of_first_release,
    numerics_of,
    recipe_of,
    version_name,
)
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError
from embedkit.formats.canonical import with_checksum

INGREDIENTS = {
    "weights": "a",
    "max_tokens": 256,
    "prompt": "",
    "normalize": False,
    "precision": "float32",
    "device": "cpu",
    "backend": "torch",
    "batch_tokens": 2048,
}


def test_names_come_from_what_is_in_a_version():
    mark = fingerprint({"weights": "a", "max_tokens": 256})
    assert mark == fingerprint({"max_tokens": 256, "weights": "a"})
    assert mark != fingerprint({"max_tokens": 257, "weights": "a"})
    name = version_name(mark, "inputs", "job")
    assert len(name) == 13
    assert name == version_name(mark, "inputs", "job")
    assert len({name, version_name(mark, "inputsj", "ob"), version_name(mark, "inputs", "j")}) == 3


@pytest.mark.parametrize("neutral", [None, False, 0, "", [], {}])
def test_an_ingredient_of_a_later_release_is_neutral_where_it_is_not_used(neutral):
    later = INGREDIENTS | {"layers": neutral}
    for named_by in (recipe_of, fingerprint, fingerprint_of_first_release):
        assert named_by(later) == named_by(INGREDIENTS)
        assert named_by(later | {"layers": 3}) != named_by(INGREDIENTS)


@pytest.mark.parametrize(
    ("name", "value"), [("device", "cuda"), ("backend", "openvino"), ("batch_tokens", 1)]
)
def test_numerics_are_not_of_the_recipe(name, value):
    other = INGREDIENTS | {name: value}
    assert recipe_of(other) == recipe_of(INGREDIENTS)
    assert fingerprint(other) == fingerprint(INGREDIENTS)
    assert fingerprint_of_first_release(other) != fingerprint_of_first_release(INGREDIENTS)
    assert numerics_of(other)[name] == value


def test_the_precision_names_a_version_and_is_not_of_the_recipe():
    other = INGREDIENTS | {"precision": "bfloat16"}
    assert recipe_of(other) == recipe_of(INGREDIENTS)
    assert fingerprint(other) != fingerprint(INGREDIENTS)


@pytest.mark.parametrize("name", ["weights", "max_tokens", "prompt", "normalize"])
def test_all_else_is_of_the_recipe(name):
    other = INGREDIENTS | {name: "other"}
    assert recipe_of(other) != recipe_of(INGREDIENTS)
    assert fingerprint(other) != fingerprint(INGREDIENTS)


def plan_of_first_release(name: str) -> VersionPlan:
    return read_plan(Version(str(FIXTURES / "0.1.0" / "root"), version_of("0.1.0", name)))


@pytest.mark.parametrize("name", ["complete", "half-done"])
def test_names_of_the_first_release_are_known(name):
    plan = plan_of_first_release(name)
    mark = fingerprint_of_first_release(plan.vectors)
    assert mark == plan.fingerprint
    assert version_name(mark, plan.inputs_digest, plan.job_digest) == version_of("0.1.0", name)


def test_a_version_that_the_first_release_began_is_joined_whatever_the_device(tmp_path: Path):
    root = copy_of_root("0.1.0", tmp_path / "root")
    version = Version(str(root), "nightly")
    plan = plan_of_first_release("named-half-done")
    vectors = plan.vectors | {"device": "cuda", "batch_tokens": 1, "layers": None}
    ours = replace(plan, vectors=vectors, fingerprint=fingerprint(vectors))
    assert create_or_check_plan(version, ours) == plan
    other = replace(ours, vectors=vectors | {"precision": "bfloat16", "prompt": "x"})
    with pytest.raises(ConfigError) as caught:
        create_or_check_plan(version, other)
    assert "(precision: bfloat16, was float32; prompt: x, was counted )" in str(caught.value)


def test_fields_of_a_later_release_stay_in_the_plan(tmp_path: Path):
    version = Version(str(tmp_path), "v1")
    plan = VersionPlan("a", vectors={"weights": "w"})
    later = with_checksum(plan.to_dict() | {"budget": {"rows": 3}})
    version.store.create(version.plan_key, json.dumps(later).encode())
    standing = create_or_check_plan(version, plan)
    assert standing == plan
    assert standing.unknown == {"budget": {"rows": 3}}
    assert json.loads(standing.to_json()) == later
