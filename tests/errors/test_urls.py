"""What may be secret in a URL is written and said nowhere."""

import json
import logging
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
from reading import corpus_config, read_corpus

from embedkit.cli.logs import say_error, set_up_logs
from embedkit.corpus.plan import Plan, plan_corpus
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, EmbedkitError, InputError
from embedkit.errors.foreign import as_ours
from embedkit.errors.urls import public_url, s3_credentials, without_secrets


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("/a/b?c#d@e", "/a/b?c#d@e"),
        ("http://ann:pass@host:80/a.jsonl?x=1#f", "http://host:80/a.jsonl"),
        ("https://token@host/a", "https://host/a"),
        ("http://ann:p/ss@host/a", "http://host/a"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("s3://KEY:SE/C+RET@bucket/k?.txt", "s3://bucket/k?.txt"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("gs://bucket/a?X-Goog-Signature=abc", "gs://bucket/a"),
        ("abfs://container@account/a", "abfs://container@account/a"),
        ("HTTPS://ann:pass@host/a?x=1", "HTTPS://host/a"),
        ("htps://ann:pass@host/a.jsonl?t=1#f", "htps://host/a.jsonl"),
        ("file:///a/b?c.txt", "file:///a/b?c.txt"),
    ],
)
def test_public_urls(url: str, public: str) -> None:
    assert public_url(url) == public
    assert without_secrets(f"cannot open '{url}'; check it") == f"cannot open '{public}'; check it"


def test_secrets_by_themselves() -> None:
    url = "http://ann:Tr0ub4dor@host/a?sig=xyz123"
    assert without_secrets("bad sig=xyz123 of Tr0ub4dor", url) == "bad *** of ***"
    assert s3_credentials("s3://K%2F:S@b/a") == ("K/", "S")
    assert s3_credentials("s3://bucket/a:b@c") is None


def test_an_error_is_said_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    say_error("http://ann:Tr0ub4dor@host/a?token=xyz123: refused")
    assert "Tr0ub4dor" not in (said := capsys.readouterr().err)
    assert "xyz123" not in said


def test_a_plan_and_its_errors_hold_no_secret_but_it_opens(
    bucket: str, s3_server: str, tmp_path: Path
) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=s3_server)
    client.put_object(Bucket=bucket, Key="a.jsonl", Body=json.dumps({"text": "one"}).encode())
    root = f"s3://AKIAEXAMPLE:Tr0ub4dor@{bucket}"
    plan = plan_corpus(corpus_config(root))
    [file] = plan.splits[0].ranges
    assert (file.source, file.url) == ("a.jsonl", f"s3://{bucket}/a.jsonl")
    assert "Tr0ub4dor" not in plan.to_json() + repr(plan)
    read_back = Plan.from_json(plan.to_json())
    assert "Tr0ub4dor" in read_back.with_secrets(plan).splits[0].ranges[0].opened_as
    with pytest.raises(EmbedkitError) as error:
        plan_corpus(corpus_config(f"{root}/gone.jsonl"))
    assert "Tr0ub4dor" not in str(error.value)


def test_an_output_is_opened_by_the_credentials_in_its_url(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    version = Version(f"s3://AKIAEXAMPLE:Tr0ub/4dor+x@{bucket}/out/", "v1")
    system: Any = pickle.loads(pickle.dumps(version)).store
    assert (system._system.key, system._system.secret) == ("AKIAEXAMPLE", "Tr0ub/4dor+x")
    assert version.store.create("v1/a", b"one")
    assert version.sibling("v2").store.read("v1/a") == b"one"
    # A secret that was changed, or stands in the environment, is no part of a version's name.
    assert version == Version(f"s3://AKIAOTHER:0ther@{bucket}/out", "v1")
    assert version == Version(f"S3://{bucket}/out", "v1")
    said = f"{version!r} {version.url} {version.url_of('v1/a')} {version.store.url}"
    assert "Tr0ub" not in said
    assert version.store.url == f"s3://{bucket}/out"


@pytest.mark.parametrize(
    "output",
    [
        "gs://ann:Tr0ub4dor@bucket/out",
        "http:/ann:Tr0ub4dor@host/out",
        "s3:/AKIAEXAMPLE:Tr0ub4dor@bucket/out",
        "github://ann:Tr0ub4dor@bucket/out",
        "ftp://ann:Tr0ub4dor@host/out",
    ],
)
def test_other_outputs_with_secrets_are_refused_without_saying_them(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        _ = Version(output, "v1").store
    assert "Tr0ub4dor" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://ann:Tr0ub4dor@host/a.txt: refused", "ftp://host/a.txt: refused"),
        ("http:/ann:Tr0ub4dor@host/a: refused", "http:/host/a: refused"),
        ("https:///ann:Tr0ub4dor@host/a", "https:///host/a"),
        ("in /home/x/s3:/KEY:Tr0ub4dor@b/a", "in /home/x/s3:/b/a"),
        ("via http://ann:Tr0ub#?4dor@[::1]:3128", "via http://[::1]:3128"),
        ("http://a/x,http://ann:Tr0ub4dor@b/y", "http://a/x,http://b/y"),
        ("simplecache::http://ann:Tr0ub4dor@h/x", "simplecache::http://h/x"),
        ("GET /a.csv?sv=1&sig=Tr0ub4dor&b=2 is 403", "GET /a.csv?sv=1&sig=***&b=2 is 403"),
        ("url='/x?X-Amz-Signature=Tr0ub4dor'", "url='/x?X-Amz-Signature=***'"),
        ("s3://b/what?key=1#2.jsonl: gone", "s3://b/what?key=1#2.jsonl: gone"),
        ("/data/a:/b?c@d: gone", "/data/a:/b?c@d: gone"),
        ("http://[::1]:8080/a@b", "http://[::1]:8080/a@b"),
    ],
)
def test_what_looks_like_a_secret_is_in_no_error_and_no_log_line(
    text: str, said: str, logging_restored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(InputError(text)) == said
    assert str(pickle.loads(pickle.dumps(InputError(text)))) == said
    assert said in str(as_ours(OSError(f"{'x' * 250} {text}"))) or "Tr0ub" not in text
    for form in ("text", "json"):
        set_up_logs(form)
        logging.getLogger("embedkit").warning("%s", text)
        assert said in capsys.readouterr().err


def test_a_traceback_that_is_kept_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    long = f"{'x' * 270} http://ann:Tr0ub4dor@host/a?sig=Tr0ub4dor"
    assert "Tr0ub" not in str(as_ours(KeyError(long)))
    [kept] = tmp_path.iterdir()
    assert "http://host/a" in (text := kept.read_text())
    assert "Tr0ub4dor" not in text


def test_names_on_a_store_keep_their_marks(bucket: str, s3_server: str) -> None:
    import boto3

    names = ["what?key=1#2.jsonl", "a b?.jsonl", "who#.jsonl", "token?token=x.jsonl", "%3F.jsonl"]
    client = boto3.client("s3", endpoint_url=s3_server)
    for number, name in enumerate(names):
        line = json.dumps({"text": f"text {number}"}).encode()
        client.put_object(Bucket=bucket, Key=f"in/{name}", Body=line)
    corpus = read_corpus(f"s3://AKIAEXAMPLE:Tr0ub4dor@{bucket}/in/")
    assert {row["source"]: row["text"] for row in corpus.rows} == {
        name: f"text {number}" for number, name in enumerate(names)
    }
    assert not corpus.plan.skipped_files
    [one] = plan_corpus(corpus_config(f"s3://{bucket}/in/{names[0]}")).splits
    assert one.ranges[0].url == f"s3://{bucket}/in/{names[0]}"
