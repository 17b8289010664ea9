"""What the bucket's check says of endpoints, buckets and credentials that are wrong, and how soon."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest
from botocore.config import Config

from backup import bucket
from backup.bucket import BucketMissing, BucketRefused, BucketUnreachable, check_bucket, count_objects, ensure_embedded_bucket, is_empty, list_names
from backup.repositories.access import S3Access
from config.errors import Exit, NightsafeError
from tests.integration.conftest import S3Server
from tests.integration.s3_parts import answering, proxy


def failure(access: S3Access) -> NightsafeError:
    started = time.monotonic()
    with pytest.raises(NightsafeError) as error:
        check_bucket(access)
    assert time.monotonic() - started < 30
    assert access.secret_key not in str(error.value)
    assert "\n" not in error.value.message
    assert error.value.hint
    return error.value


def code(name: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{name}</Code><Message>words</Message></Error>".encode()


def test_a_good_bucket_passes_with_each_credential(s3: S3Server) -> None:
    for role in ("writer", "reader", "pruner"):
        check_bucket(s3.access(role))  # type: ignore[arg-type]
    assert is_empty(s3.access("reader"), "nobody/was/here/")
    assert count_objects(s3.access("reader"), "nobody/was/here/") == 0
    assert list_names(s3.access("reader"), "nobody/") == []


def test_refused_connections(s3: S3Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        found = failure(replace(s3.access(), endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}"))
    assert isinstance(found, BucketUnreachable)
    assert found.exit_code == Exit.OUT_OF_REACH


def test_a_name_that_does_not_exist(s3: S3Server) -> None:
    assert isinstance(failure(replace(s3.access(), endpoint="http://no-such-host.invalid")), BucketUnreachable)


def test_an_endpoint_that_never_answers(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = bucket._CONFIG
    assert usual.read_timeout <= 7
    monkeypatch.setattr(bucket, "_CONFIG", usual.merge(Config(read_timeout=1)))
    with proxy(s3.access().endpoint) as between:
        between.frozen.set()
        assert isinstance(failure(replace(s3.access(), endpoint=between.endpoint)), BucketUnreachable)


def test_tls_against_a_plain_server(s3: S3Server) -> None:
    assert isinstance(failure(replace(s3.access(), endpoint=s3.access().endpoint.replace("http://", "https://"))), BucketUnreachable)


def test_a_wrong_secret_and_a_wrong_key(s3: S3Server) -> None:
    for wrong in (replace(s3.access(), secret_key="wrong" * 8), replace(s3.access(), access_key="NOSUCHKEY")):
        found = failure(wrong)
        assert isinstance(found, BucketRefused)
        assert found.exit_code == Exit.USAGE
        assert "access_key" in found.hint


def test_a_bucket_that_the_credentials_may_not_see(s3: S3Server) -> None:
    found = failure(replace(s3.access(), bucket="another"))
    assert isinstance(found, BucketRefused)
    assert "bucket exists" in found.hint


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, code("NoSuchBucket"), BucketMissing, "no bucket 'nightsafe'"),
        (301, code("PermanentRedirect"), BucketRefused, "another region"),
        (400, code("AuthorizationHeaderMalformed"), BucketRefused, "another region"),
        (503, code("SlowDown"), BucketUnreachable, "SlowDown"),
        (403, code("RequestTimeTooSkewed"), BucketUnreachable, "finds the time wrong"),
        (500, b"", BucketUnreachable, "500"),
        (200, b"<html>a router's login page</html>", BucketUnreachable, "no S3 service"),
        (403, b"", BucketRefused, "may not use"),
        (404, b"<html>", BucketMissing, "no bucket"),
    ],
)
def test_answers_of_other_services(status: int, body: bytes, kind: type[NightsafeError], words: str, s3: S3Server) -> None:
    with answering(status, body) as endpoint:
        found = failure(replace(s3.access(), endpoint=endpoint))
    assert type(found) is kind
    assert words in found.message


def test_a_wrong_clock_is_named_where_regions_are_pinned_too(s3: S3Server) -> None:
    """The first question is a HEAD then, whose answer cannot say why."""
    with answering(403, code("RequestTimeTooSkewed")) as endpoint, pytest.raises(BucketUnreachable, match="finds the time wrong"):
        check_bucket(replace(s3.access(), endpoint=endpoint), ["eu-central-1"])


def test_buckets_are_made_in_the_embedded_server_only(s3: S3Server) -> None:
    with pytest.raises(ValueError, match="embedded"):
        ensure_embedded_bucket(s3.access("pruner"))
