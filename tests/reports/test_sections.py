"""What a section consists of, and what it takes to add one."""

import importlib.util
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from embedkit.reports.render import render_html
from embedkit.reports.sections import SECTIONS
from embedkit.reports.statistics import Statistics


@pytest.fixture(scope="module")
def questions():
    """The one module, whose fragment stands beside it."""
    path = Path(__file__).with_name("questions.py")
    spec = importlib.util.spec_from_file_location("questions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SECTION


def test_a_section_is_added_by_its_module_its_fragment_and_a_line(
    questions, make_report, make_block
):
    sections = (*SECTIONS, questions)
    blocks = [make_block(["why?", "so", "what?"], seq=0), make_block(["who?"], seq=1)]
    report = make_report(blocks, sections=sections)
    assert report["questions"] == {"count": 3, "share": 0.75}
    assert {"level": "note", "text": "Most texts ask something."} in report["findings"]
    page = render_html(json.loads(json.dumps(report)), sections)
    assert "<p>3 texts of 4 ask something (75 %).</p>" in page
    # The rest of the page is as it was.
    without = render_html(make_report(blocks, sections=SECTIONS))
    assert page.count("<section>") == without.count("<section>") + 1


def test_its_statistic_stands_in_sidecars(questions, make_block):
    sections = (*SECTIONS, questions)
    blocks = [make_block(["why?"], seq=0), make_block(["who?", "we"], seq=1)]
    one, two = (
        Statistics.from_dict(
            json.loads(json.dumps(Statistics.of(block, 256, sections=sections).to_dict(sections))),
            sections,
        )
        for block in blocks
    )
    assert (one + two).get(questions).count == 2


def test_a_block_of_an_earlier_release_leaves_the_section_out(questions, make_report, make_block):
    sections = (*SECTIONS, questions)
    earlier = Statistics.of(make_block(["why?"], seq=0), 256)
    later = Statistics.of(make_block(["who?"], seq=1), 256, sections=sections)
    total = Statistics.empty(sections) + earlier + later
    assert total.get(questions) is None
    report = make_report([make_block(["why?"])])
    assert "Questions" not in render_html(report, sections)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_a_section_has_all_of_its_parts(section):
    assert section.fragment.is_file()
    assert section.fragment.parent == Path(section.file).parent
    figures = get_type_hints(section.figures)["return"]
    assert is_dataclass(figures)


def test_sidecars_hold_nothing_of_sections_that_measure_nothing(make_block):
    told = Statistics.of(make_block(["a"]), 256).to_dict()["sections"]
    measured = ["groups", "languages", "lengths", "quantization", "records", "scripts"]
    measured += ["similarity", "vectors"]
    assert sorted(told) == measured
    assert all(told.values())


def test_no_two_sections_say_the_same_of_the_report():
    names = [section.name for section in SECTIONS]
    entries = [
        field.name
        for section in SECTIONS
        for field in fields(get_type_hints(section.figures)["return"])
    ]
    assert len({*names}) == len(names)
    assert len({*entries}) == len(entries)
