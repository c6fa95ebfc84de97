"""What S3 and GCS are asked, and what is made of their answers."""

import threading

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from gcs_server import GcsHandler

from embedkit.dataset import s3_store
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.mend import mend
from embedkit.dataset.stores import open_store, probe
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_version, find_versions, latest
from embedkit.errors import ConfigError, StoreError
from embedkit.search.exact import search


class TestGcs:
    def test_a_create_carries_the_condition_and_is_one_request(self, gcs):
        store = open_store("gs://bucket/root")
        large = bytes(51 << 20)
        assert store.create("v/a", large)
        assert not store.create("v/a", b"second")
        assert gcs.objects["root/v/a"] == large
        assert [query["ifGenerationMatch"] for _, query, _ in gcs.asked] == [["0"], ["0"]]
        assert {query["uploadType"][0] for _, query, _ in gcs.asked} == {"multipart"}

    def test_a_copy_is_a_rewrite_with_the_condition(self, gcs):
        store = open_store("gs://bucket/root")
        gcs.objects |= {"root/v1/a": b"one", "root/v1/b": b"two"}
        assert store.copy("v1/a", "v2/a")
        assert not store.copy("v1/b", "v2/a")
        assert gcs.objects["root/v2/a"] == b"one"
        # No byte of it comes here, and each step is on the condition.
        assert [query["ifGenerationMatch"] for _, query, _ in gcs.asked] == [["0"]] * 3
        assert {path for path, _, _ in gcs.asked} == {
            f"/storage/v1/b/bucket/o/root%2Fv1%2F{name}/rewriteTo/b/bucket/o/root%2Fv2%2Fa"
            for name in "ab"
        }
        with pytest.raises(FileNotFoundError):
            store.copy("v1/none", "v2/b")

    def test_replace_carries_none(self, gcs):
        store = open_store("gs://bucket/root")
        store.replace("LATEST", b"v1")
        store.replace("LATEST", b"v2")
        assert store.read("LATEST") == b"v2"
        assert all("ifGenerationMatch" not in query for _, query, _ in gcs.asked)

    def test_listings_and_sizes_are_fresh(self, gcs):
        store = open_store("gs://bucket/root")
        store.create("v/a", b"x")
        assert list(store.list("v/")) == ["v/a"]
        assert store.size("v/b") is None
        gcs.objects["root/v/b"] = b"xy"
        assert list(store.list("v/")) == ["v/a", "v/b"]
        assert store.size("v/b") == 2
        assert list(store.list("w/")) == []

    def test_a_whole_version(self, gcs, job):
        version = Version("gs://bucket/root", "v1")
        probe(version.store)
        job.complete(version)
        again = Version("gs://bucket/root", "v1")
        job.complete(again)
        assert validate(again).problems == ()
        assert latest("gs://bucket/root") == version

    def test_an_error_names_the_object(self, gcs, monkeypatch):
        store = open_store("gs://bucket/root")

        def refused(handler):
            handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            handler.answer(400, {"error": {"code": 400, "message": "This is invalid"}})

        monkeypatch.setattr(GcsHandler, "do_POST", refused)
        with pytest.raises(StoreError, match=r"gs://bucket/root/v/a: could not create it.*invalid"):
            store.create("v/a", b"x")


class TestS3:
    def test_a_large_create_is_one_conditional_request(self, bucket, monkeypatch):
        store = open_store(f"s3://{bucket}/root")
        calls = []
        call = store._system._call_s3

        async def watched(method, *args, **kwargs):
            calls.append((method, kwargs.get("IfNoneMatch")))
            return await call(method, *args, **kwargs)

        monkeypatch.setattr(store._system, "_call_s3", watched)
        assert store.create("v/a", bytes(101 << 20))
        assert not store.create("v/a", b"x")
        assert calls == [("put_object", "*"), ("put_object", "*")]

    def test_a_service_that_replaces_on_copies_is_not_asked_to_copy(self, bucket, monkeypatch):
        """As moto does, which looks at the condition of a create alone."""
        store = open_store(f"s3://{bucket}/root")
        asked = self.asked(store, monkeypatch)
        store.create("v1/a", b"one")
        store.create("v1/b", b"two")
        assert store.copy("v1/a", "v2/a")
        assert not store.copy("v1/b", "v2/a")
        assert store.read("v2/a") == b"one"
        # Tried out once, on objects of its own.
        assert asked.count("copy_object") == 2
        assert list(store.list(".tmp/")) == []

    def asked(self, store, monkeypatch):
        asked = []
        call = store._system.call_s3

        def watched(method, **kwargs):
            asked.append(method)
            return call(method, **kwargs)

        monkeypatch.setattr(store._system, "call_s3", watched)
        return asked

    @pytest.fixture
    def amazon(self, monkeypatch):
        """Moto with copies as Amazon makes them: none where the key is taken."""
        from moto.s3.exceptions import PreconditionFailed
        from moto.s3.responses import S3Response

        copy_object = S3Response.copy_object
        lock = threading.Lock()

        def conditional(response, *args, **kwargs):
            with lock:
                there = response.backend.get_object(response.bucket_name, response.parse_key_name())
                if response.headers.get("If-None-Match") == "*" and there is not None:
                    raise PreconditionFailed("If-None-Match")
                return copy_object(response, *args, **kwargs)

        monkeypatch.setattr(S3Response, "copy_object", conditional)

    def test_a_service_that_heeds_the_condition_copies_by_itself(self, bucket, amazon, monkeypatch):
        store = open_store(f"s3://{bucket}/root")
        store.create("v1/a", b"one")
        store.create("v1/b", b"two")
        assert store.copy("v1/a", "v2/a")
        asked = self.asked(store, monkeypatch)
        assert not store.copy("v1/b", "v2/a")
        assert store.copy("v1/b", "v2/b")
        with pytest.raises(FileNotFoundError):
            store.copy("v1/none", "v2/c")
        assert asked == ["copy_object"] * 3
        assert (store.read("v2/a"), store.read("v2/b")) == (b"one", b"two")
        assert list(store.list(".tmp/")) == []

    def test_a_service_that_does_not_know_the_condition_is_not_asked(self, bucket, monkeypatch):
        store = open_store(f"s3://{bucket}/root")
        store.create("v1/a", b"one")
        call = store._system.call_s3

        def refusing(method, **kwargs):
            if method == "copy_object":
                raise self.answer(501, "NotImplemented")
            return call(method, **kwargs)

        monkeypatch.setattr(store._system, "call_s3", refusing)
        assert store.copy("v1/a", "v2/a")
        assert store.read("v2/a") == b"one"
        assert list(store.list(".tmp/")) == []

    def test_two_attempts_at_once(self, bucket, job):
        """Two processes' worth of threads over HTTP, each with its own connection to the store."""
        versions = [Version(f"s3://{bucket}/root", "v1") for _ in range(2)]
        threads = [threading.Thread(target=job.complete, args=(each,)) for each in versions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert validate(versions[0]).problems == ()
        assert read_manifest(versions[0]).rows == 12

    def test_a_listing_of_several_pages(self, bucket, monkeypatch):
        store = open_store(f"s3://{bucket}/root")
        keys = [f"v/{number:02d}" for number in range(25)]
        for key in keys:
            store.create(key, b"x")
        call = store._system.call_s3
        pages = []

        def paged(method, **kwargs):
            pages.append(kwargs.get("ContinuationToken"))
            return call(method, MaxKeys=10, **kwargs)

        monkeypatch.setattr(store._system, "call_s3", paged)
        assert list(store.list("v/")) == keys
        assert len(pages) == 3

    def test_at_the_top_of_a_bucket(self, bucket, job):
        version = Version(f"s3://{bucket}", "v1")
        job.complete(version)
        assert latest(f"s3://{bucket}/") == version
        assert validate(version).problems == ()

    def test_a_bucket_that_is_not_there(self, bucket):
        store = open_store(f"s3://{bucket}-none/root")
        with pytest.raises(
            ConfigError, match=rf"cannot write the output: s3://{bucket}-none/root/"
        ):
            probe(store)
        for find in (find_version, find_versions):
            with pytest.raises(
                ConfigError, match=rf"cannot read.*{bucket}-none.*check the path and"
            ):
                find(f"s3://{bucket}-none/root")

    def failing(self, bucket, monkeypatch, *errors):
        store = open_store(f"s3://{bucket}/root")
        left = list(errors)
        pipe = store._system.pipe_file

        def pipe_file(path, data, **kwargs):
            if left:
                raise left.pop(0)
            return pipe(path, data, **kwargs)

        monkeypatch.setattr(store._system, "pipe_file", pipe_file)
        monkeypatch.setattr(s3_store.time, "sleep", lambda seconds: None)
        return store, left

    def answer(self, status, code):
        response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        error = OSError(f"answered {status}")
        error.__cause__ = ClientError(response, "PutObject")
        return error

    def test_a_refusal_without_the_condition_s_name(self, bucket, monkeypatch):
        """Other services than Amazon's leave out which condition has failed."""
        store, _ = self.failing(bucket, monkeypatch, self.answer(412, "PreconditionFailed"))
        assert store.create("v/a", b"x") is False

    def test_a_conflict_is_asked_again(self, bucket, monkeypatch):
        conflict = self.answer(409, "ConditionalRequestConflict")
        store, left = self.failing(bucket, monkeypatch, conflict, conflict)
        assert store.create("v/a", b"x") is True
        assert left == []

    def test_a_conflict_without_end_is_an_error(self, bucket, monkeypatch):
        conflicts = [self.answer(409, "ConditionalRequestConflict")] * 20
        store, left = self.failing(bucket, monkeypatch, *conflicts)
        with pytest.raises(StoreError, match="answered 409"):
            store.create("v/a", b"x")
        assert len(left) == 20 - s3_store.CONFLICT_TRIES

    def test_any_other_failure_names_the_object(self, bucket, monkeypatch):
        store, _ = self.failing(bucket, monkeypatch, self.answer(503, "SlowDown"))
        with pytest.raises(StoreError, match=rf"s3://{bucket}/root/v/a: could not create it"):
            store.create("v/a", b"x")

    def test_no_credentials_are_a_matter_of_configuration(self, bucket, monkeypatch):
        store, _ = self.failing(bucket, monkeypatch, NoCredentialsError())
        with pytest.raises(ConfigError, match="Unable to locate credentials"):
            probe(store)

    def test_a_failure_while_a_part_is_read_is_no_damage(self, bucket, job, monkeypatch):
        """A range that the service does not deliver can be asked for again; the part is well."""
        # As of a part too large to be read whole.
        monkeypatch.setattr("embedkit.dataset.rows._READ_WHOLE", 0)
        version = Version(f"s3://{bucket}/root", "v1")
        job.complete(version)
        files = []
        opened = version.store._system.open

        def failing(path, *args, **kwargs):
            file = opened(path, *args, **kwargs)
            fetch = file.cache.fetcher

            def fetcher(start, end):
                if files:
                    raise EndpointConnectionError(endpoint_url="http://gone")
                files.append(path)
                return fetch(start, end)

            file.cache.fetcher = fetcher
            return file

        monkeypatch.setattr(version.store._system, "open", failing)
        with pytest.raises(StoreError, match=r"part-00000-00000\.parquet: could not read it"):
            search(version, job.blocks[0].vectors.matrix[:1], 1)

    def test_a_small_part_that_is_not_delivered_is_no_damage(self, bucket, job, monkeypatch):
        version = Version(f"s3://{bucket}/root", "v1")
        job.complete(version)
        read = version.store._system.cat_file

        def failing(path, *args, **kwargs):
            if path.endswith(".parquet"):
                raise EndpointConnectionError(endpoint_url="http://gone")
            return read(path, *args, **kwargs)

        monkeypatch.setattr(version.store._system, "cat_file", failing)
        with pytest.raises(StoreError, match=r"part-00000-00000\.parquet: could not read it"):
            search(version, job.blocks[0].vectors.matrix[:1], 1)


def test_versions_of_a_bucket_that_are_torn_or_not_published(bucket, job):
    root = f"s3://{bucket}/some/out"
    version = Version(root, "v1")
    with pytest.raises(ConfigError, match="neither a version nor a root"):
        find_versions(root)
    job.seal(version)
    job.write(Version(root, "v2"))
    assert [one.name for one in find_versions(root)] == ["v1", "v2"]
    version.store.replace(version.success_key, b"")
    version.store.replace(version.stats_key("00000-00001"), b"{")
    assert [torn.partition(": ")[0] for torn in mend(version)] == [
        f"{root}/v1/_SUCCESS",
        f"{root}/v1/_meta/stats/00000-00001.json",
        f"{root}/v1/_meta/manifest.json",
    ]
    job.complete(version)
    assert latest(root) == version
    assert validate(version).problems == ()
