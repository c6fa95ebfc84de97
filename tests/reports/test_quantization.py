"""What storing codes costs as a report tells it, held against NumPy over all rows."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from blocks import build_block, in_codes

from embedkit.quantization import Calibration, StoredAs
from embedkit.reports.render import render_page
from embedkit.reports.sections.quantization import SECTION
from embedkit.reports.statistics import Statistics
from embedkit.vectors import EmbeddingBlock, vectors_of

VECTORS = np.random.default_rng(5).normal(size=(300, 8)).astype(np.float32)
HOW = StoredAs("int8", 8, Calibration.of(VECTORS[:100]))
DATASET = {"vector_dtype": "int8", "dimension": 8, "calibration": {"rows": 100}}


def block_of(vectors, seq=0):
    """A block of codes, as ``encode_tokens`` makes it."""
    texts = [f"text {seq} {number}" for number in range(len(vectors))]
    return in_codes(build_block(texts, vectors, seq=seq), HOW)


def test_the_figures_are_those_of_all_rows(make_report):
    parts = np.split(VECTORS, [40, 41, 250])
    report = make_report([block_of(part, seq) for seq, part in enumerate(parts)], DATASET)
    back = HOW.floats(HOW.stored(VECTORS)).astype(np.float64)
    lengths = np.linalg.norm(VECTORS, axis=1) * np.linalg.norm(back, axis=1)
    cosines = (VECTORS * back).sum(axis=1) / lengths
    found = report["quantization"]
    assert (found["dtype"], found["bytes_per_vector"]) == ("int8", 8)
    assert (found["float_bytes_per_vector"], found["calibration_rows"]) == (32, 100)
    assert found["rows_measured"] == 300
    assert found["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-7)
    assert found["least_cosine"] == pytest.approx(cosines.min(), abs=1e-7)
    assert found["clipped_share"] == HOW.clipped(VECTORS) / VECTORS.size > 0


def test_blocks_add_up_to_the_same_bytes_in_any_order():
    blocks = [block_of(part, seq) for seq, part in enumerate(np.split(VECTORS, [40, 90]))]
    found = {
        json.dumps(SECTION.codec.dump_python(sum_of(order), mode="json"))
        for order in itertools.permutations(blocks)
    }
    assert len(found) == 1


def sum_of(blocks):
    one, two, three = (Statistics.of(block, 32).get(SECTION) for block in blocks)
    return one + (two + three)


def test_ranges_that_no_longer_fit_are_a_finding(make_report):
    fitting = make_report([block_of(VECTORS[:100])], DATASET)
    assert not any("calibrates anew" in finding["text"] for finding in fitting["findings"])
    drifted = make_report([block_of(3 * VECTORS)], DATASET)
    assert any("calibrates anew" in finding["text"] for finding in drifted["findings"])


def test_codes_that_were_taken_over_are_not_measured(make_report):
    block = replace(block_of(VECTORS), loss=None)
    report = make_report([block], DATASET)
    assert report["quantization"]["mean_cosine"] is None
    assert report["quantization"]["rows_measured"] == 0
    page = render_page(SECTION.fragment.name, report, (SECTION.fragment.parent,))
    assert "Stored as int8" in page and "not measured" in page


def test_floats_have_no_such_section(make_report, usual_blocks):
    assert "quantization" not in make_report(usual_blocks, {})["sections"]


def test_a_block_keeps_its_loss_and_its_ranges_between_workers():
    block = block_of(VECTORS)
    back = EmbeddingBlock.from_ipc(block.to_ipc())
    assert back.loss == block.loss
    np.testing.assert_array_equal(vectors_of(back.rows).matrix, HOW.floats(HOW.stored(VECTORS)))
