"""Where an unchanged text is looked for, and when it is said that elsewhere it might be found."""

import logging
from pathlib import Path
from typing import Any

import pytest

from embedkit.config import OutputConfig
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.version import Version
from embedkit.flow.reuse import Reuse, find_reuse


def plan(*sources: str) -> VersionPlan:
    """The plan of a version over such input files; over a user's own rows where there are none."""
    files = [[source, f"/in/{source}", 9, "etag", "jsonl", "none"] for source in sources]
    return VersionPlan(
        fingerprint="f" * 32,
        vectors={"prompt": "", "max_tokens": 8},
        corpus={"input_files": files} if files else {},
        job={},
        job_digest="j",
        inputs_digest=" ".join(sources),
    )


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path)


def found(root: str, before: VersionPlan, now: VersionPlan, **output: Any) -> Reuse | None:
    create_or_check_plan(Version(root, "v1"), before)
    return find_reuse(Version(root, "v2"), now, OutputConfig(output=root, reuse="v1", **output))


@pytest.mark.parametrize("scope", ["source", "global"])
def test_files_have_the_scope_that_is_asked_for(root: str, scope: str) -> None:
    reuse = found(root, plan("a"), plan("a"), reuse_scope=scope)
    assert reuse is not None
    assert reuse.scope == scope
    assert reuse.into == Version(root, "v2")


@pytest.mark.parametrize("before", [plan(), plan("a.jsonl")])
@pytest.mark.parametrize("scope", ["source", "global"])
def test_rows_of_no_file_are_looked_for_everywhere(
    root: str, before: VersionPlan, scope: str
) -> None:
    reuse = found(root, before, plan(), reuse_scope=scope)
    assert reuse is not None
    assert reuse.scope == "global"


SAID = (
    "since version v1 {} went and {} came; --reuse-scope global would find texts that moved from "
    "one to another"
)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (["a", "b"], ["a", "c"], [SAID.format("1 input file", "1 input file")]),
        ("abcd", "ABCDEFG", [SAID.format("4 input files", "7 input files")]),
        (["a"], ["a", "b"], []),
        (["a", "b"], ["b"], []),
        (["a"], ["a"], []),
        ([], ["a"], []),
    ],
)
def test_it_is_said_where_texts_may_have_moved(
    root: str, caplog: pytest.LogCaptureFixture, before: str, now: str, said: list[str]
) -> None:
    with caplog.at_level(logging.INFO, "embedkit"):
        found(root, plan(*before), plan(*now))
        assert caplog.messages == said
        caplog.clear()
        found(root, plan(*before), plan(*now), reuse_scope="global")
    assert caplog.messages == []
