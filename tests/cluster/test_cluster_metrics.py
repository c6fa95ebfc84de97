"""What Prometheus finds at the nodes of a cluster."""

import urllib.request

import pytest
from processes import wait_until
from raylets import ROWS

from embedkit.actors.metrics import EXPORTED

_AGENT = "Ray's metrics agent is not installed here: pip install 'ray[default]'"
pytest.importorskip("opencensus", reason=_AGENT)
parser = pytest.importorskip("prometheus_client.parser", reason=_AGENT)

pytestmark = pytest.mark.timeout(1200)

ONLY_WITH_LOSSES = {
    f"ray_embedkit_{name}_total"
    for name in ("rejects", "lost_workers", "encoder_restarts", "encode_retries")
}


def scrape(endpoints: list[str], version: str) -> dict[str, float]:
    """The run's metrics, those of several encoders added up."""
    found: dict[str, float] = {}
    for endpoint in endpoints:
        text = urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=60).read().decode()
        for family in parser.text_string_to_metric_families(text):
            for name, labels, value, *_ in family.samples:
                if name.startswith("ray_embedkit_") and labels.get("version") == version:
                    found[name] = found.get(name, 0.0) + value
    return found


def test_a_run_is_seen_by_prometheus(cluster, many_blocks, start_run, tmp_path):
    cluster.resize(1)
    result = start_run(many_blocks(tmp_path / "out", ray_address=cluster.address)).end()
    endpoints, version = cluster.metrics, result["version"]
    documents = "ray_embedkit_documents_total"
    # The nodes' agents pass on, every few seconds, what the driver left.
    wait_until(lambda: scrape(endpoints, version).get(documents) == ROWS)
    found = scrape(endpoints, version)
    assert set(found) == set(EXPORTED) - ONLY_WITH_LOSSES
    assert found["ray_embedkit_encoder_rows_total"] == ROWS
    assert found["ray_embedkit_encoder_tokens_total"] == result["tokens_encoded"]
    assert 0 < found["ray_embedkit_encoder_busy_share"] <= 1
    assert (found["ray_embedkit_splits_waiting"], found["ray_embedkit_splits_claimed"]) == (0, 0)
    assert found["ray_embedkit_encoders"] == 1
