"""What may be secret in a URL is written and said nowhere."""

import json
from pathlib import Path

import pytest
from reading import corpus_config

from embedkit.corpus.plan import Plan, plan_corpus
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, EmbedkitError
from embedkit.logs import say_error
from embedkit.urls import public_url, s3_credentials, without_secrets


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


def test_an_output_takes_no_credentials_in_its_url() -> None:
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID") as error:
        Version("s3://AKIAEXAMPLE:Tr0ub4dor@bucket/out", "v1")
    assert "Tr0ub4dor" not in str(error.value)
