"""The rows of a version that stands, given to Ray Data."""

import shutil
import sys
from collections.abc import Iterator

import fsspec
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import ray.data
import s3fs
from releases import FIXTURES, copy_of_root

from embedkit.actors.ray_data import ray_dataset
from embedkit.errors import ConfigError

ROOT = FIXTURES / "0.1.0" / "root"
NEWEST = (ROOT / "LATEST").read_text().strip()


@pytest.fixture
def in_memory() -> Iterator[None]:
    memory = fsspec.filesystem("memory")
    memory.put(str(ROOT), "/ray-data/root", recursive=True)
    yield
    memory.rm("/ray-data", recursive=True)


@pytest.mark.soak
def test_all_rows_of_the_listed_parts_and_no_others(ray_session, tmp_path):
    # A folder's name is no column, and a part that is not listed is none of the version's.
    root = copy_of_root("0.1.0", tmp_path / "year=2026")
    data = root / NEWEST / "data"
    shutil.copy(data / "part-00000-00000.parquet", data / "part-00009-00000.parquet")
    found = ray_dataset(str(root)).take_all()
    expected = ds.dataset(ROOT / NEWEST / "data", format="parquet").to_table().to_pylist()
    assert len(found) == len(expected) > 10
    assert sorted(map(repr, found)) == sorted(map(repr, expected))


def test_columns_and_options_reach_the_reader(monkeypatch):
    asked = {}
    monkeypatch.setattr(ray.data, "read_parquet", lambda paths, **given: asked.update(given))
    ray_dataset(str(ROOT), ["embedding", "id"], concurrency=3)
    assert asked["columns"] == ["embedding", "id"]
    assert asked["concurrency"] == 3
    with pytest.raises(ConfigError, match="no column 'titel'; there are id, embedding"):
        ray_dataset(str(ROOT), ["titel"])


def test_a_version_on_an_object_store_is_read_with_its_own_file_system(monkeypatch, bucket):
    s3fs.S3FileSystem().put(str(ROOT), f"{bucket}/root", recursive=True)
    given = {}

    def read_parquet(paths: list[str], filesystem: object, **rest: object) -> None:
        given["rows"] = sum(
            pq.read_metadata(path, filesystem=filesystem).num_rows for path in paths
        )

    monkeypatch.setattr(ray.data, "read_parquet", read_parquet)
    ray_dataset(f"s3://{bucket}/root")
    assert given["rows"] == ds.dataset(ROOT / NEWEST / "data", format="parquet").count_rows()


def test_a_version_that_no_worker_can_read_is_refused(in_memory):
    with pytest.raises(ConfigError, match="in the memory of this process"):
        ray_dataset("memory://ray-data/root")


def test_what_ray_data_lacks_is_said_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ConfigError, match=r"install ray\[data\], which is the extra data of"):
        ray_dataset(str(ROOT))
