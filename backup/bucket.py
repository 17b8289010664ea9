"""The bucket itself, seen with boto3 (imported here alone): is it there, do the credentials work, is a folder in it empty?

Asked before restic is: it says in seconds what restic would say after minutes of retries. Connections are given up after a few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError, NoCredentialsError

from backup.repositories.access import S3Access
from config.errors import Away, OutOfReach, SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=7,
    retries={"max_attempts": 1, "mode": "standard"},
    s3={"addressing_style": "path"},
    user_agent_extra="nightsafe",
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_MAKING = Lock()  # a session makes one client at a time
_MISSING = {"NoSuchBucket", "404"}
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidSecurity"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "403"}
_LOCKED = _DENIED | {"InvalidRequest"}  # what services say of a lock; MinIO the last
_WRONG_TIME = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraintException"}


class BucketUnreachable(Away):
    """The endpoint does not answer, or not in its right mind."""


class BucketMissing(SettingsError):
    """The endpoint has no bucket of that name."""


class BucketRefused(SettingsError):
    """The endpoint does not accept the credentials, or does not let them do this."""


class RegionForbidden(SettingsError):
    """The bucket lies where it must not, or does not say where."""


@dataclass(frozen=True)
class Version:
    """One version of an object, by the object's name and the version's id."""

    name: str
    id: str


@dataclass(frozen=True)
class Locked:
    """An object of which an object lock keeps a version: until when; None for a legal hold, which has no end."""

    name: str
    until: datetime | None


def check_bucket(access: S3Access, regions: Sequence[str] = ()) -> None:
    """Returns when the bucket is there, may be listed, and lies in one of `regions` (any when empty).

    Raises BucketUnreachable, BucketMissing, BucketRefused, RegionForbidden.
    """
    if regions:
        _check_region(access, regions)
    list_names(access, "", limit=1)


def _check_region(access: S3Access, regions: Sequence[str]) -> None:
    """The bucket says itself where it lies; what the settings call its region proves nothing."""
    with _foreign(access) as client:
        try:
            answer = client.head_bucket(Bucket=access.bucket)
            said = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        except ClientError:  # an answer to HEAD has no body that could say why: a wrong clock, a wrong key
            said = None
        if not said:
            said = client.get_bucket_location(Bucket=access.bucket).get("LocationConstraint") or "us-east-1"  # Amazon's word for no word
    if said not in regions:
        raise RegionForbidden(
            f"the bucket '{access.bucket}' lies in {said}, which backup.allowed_regions does not name; nothing was sent",
            f"allowed: {', '.join(regions)}. Take a bucket there, or change the setting if the law and your clients allow it",
        )


def list_names(access: S3Access, folder: str, limit: int = 1000) -> list[str]:
    """Names of up to `limit` (at most 1000) objects below `folder` ('' for the whole bucket, else with a slash at its end)."""
    with _foreign(access) as client:
        answer = client.list_objects_v2(Bucket=access.bucket, Prefix=folder, MaxKeys=limit)
        if "Name" not in answer:  # a login page of a router is parsed as an empty list
            raise BucketUnreachable(f"what answers at {access.endpoint} is no S3 service", "check s3.endpoint in the settings")
        return [entry["Key"] for entry in answer.get("Contents", [])]


def read_object(access: S3Access, name: str, most: int) -> bytes | None:
    """The first `most` bytes of an object; None when there is none of that name."""
    with _foreign(access) as client:
        try:
            return client.get_object(Bucket=access.bucket, Key=name)["Body"].read(most)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return None
            raise


def count_objects(access: S3Access, folder: str, limit: int | None = None) -> int:
    """How many objects there are below `folder`; counting ends at `limit`."""
    count = 0
    with _foreign(access) as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=access.bucket, Prefix=folder):
            count += page.get("KeyCount", 0)
            if limit is not None and count >= limit:
                return limit
    return count


def is_empty(access: S3Access, folder: str) -> bool:
    """Whether nothing lies below `folder`."""
    return not list_names(access, folder, limit=1)


def remove_names(access: S3Access, names: Sequence[str]) -> None:
    """Delete these objects, one by one."""
    with _foreign(access) as client:
        for name in names:
            client.delete_object(Bucket=access.bucket, Key=name)


def old_versions(access: S3Access, folder: str, limit: int = 1_000_000) -> list[Version]:
    """Everything below `folder` that is not the current state of an object: older versions first, marks of deletion behind them all.

    Empty where the service keeps no versions, or does not know of them.
    """
    older: list[Version] = []
    marks: list[Version] = []
    with _foreign(access) as client:
        try:
            for page in client.get_paginator("list_object_versions").paginate(Bucket=access.bucket, Prefix=folder):
                older += [Version(one["Key"], one["VersionId"]) for one in page.get("Versions", []) if not one.get("IsLatest") and "VersionId" in one]
                marks += [Version(one["Key"], one["VersionId"]) for one in page.get("DeleteMarkers", []) if "VersionId" in one]
                if len(older) + len(marks) >= limit:
                    break
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NotImplemented":
                raise
    return older + marks


def remove_versions(access: S3Access, versions: Sequence[Version]) -> list[Locked]:
    """Delete these versions for good, one by one, in the order of `old_versions`; those that an object lock keeps are returned, and of each of
    their objects whatever comes behind stays too: without its mark of deletion an older version would be the current one again.

    Raises BucketRefused where it is the credential that may not.
    """
    kept: dict[str, Locked] = {}
    with _foreign(access) as client:
        for one in versions:
            if one.name in kept:
                continue
            try:
                client.delete_object(Bucket=access.bucket, Key=one.name, VersionId=one.id)
            except ClientError as error:
                locked = _lock(client, access.bucket, one) if error.response.get("Error", {}).get("Code") in _LOCKED else None
                if locked is None:
                    raise
                kept[one.name] = locked
    return list(kept.values())


def _lock(client: S3Client, bucket: str, version: Version) -> Locked | None:
    """What keeps a version from being deleted; None when it is no lock. Asked of its head, which whoever may read it may ask for."""
    try:
        head = client.head_object(Bucket=bucket, Key=version.name, VersionId=version.id)
    except ClientError:
        return None
    held, until = head.get("ObjectLockLegalHoldStatus") == "ON", head.get("ObjectLockRetainUntilDate")
    if held:
        return Locked(version.name, None)
    return Locked(version.name, until) if until and until > datetime.now(UTC) else None


def ensure_embedded_bucket(access: S3Access) -> None:
    """Make the bucket of the embedded server when it is not there yet. Never used on a service of somebody else's."""
    if not access.embedded:
        raise ValueError("buckets are made in the embedded server only")
    with _foreign(access) as client:
        try:
            client.create_bucket(Bucket=access.bucket)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise


@cache
def _session() -> Session:
    """What boto3 reads of S3 before it makes its first client: a fifteenth of a second that no later one costs again. Holds no credentials."""
    return Session()


@contextmanager
def _foreign(access: S3Access) -> Iterator[S3Client]:
    """A client, whose exceptions become ours."""
    where = f"the bucket '{access.bucket}' at {access.endpoint}"
    try:
        with _MAKING:
            client = _session().client(
                "s3",
                endpoint_url=access.endpoint,
                region_name=access.region,
                aws_access_key_id=access.access_key,
                aws_secret_access_key=access.secret_key,
                config=_CONFIG,
            )
        yield client
    except ClientError as error:
        raise _from_answer(error, access, where) from error
    except EndpointConnectionError as error:
        raise BucketUnreachable(
            f"{access.endpoint} cannot be reached: no connection, or no such name", "check s3.endpoint in the settings and the network"
        ) from error
    except (HTTPClientError, NoCredentialsError) as error:
        raise BucketUnreachable(
            f"{access.endpoint} cannot be reached: {_brief(error)}", "check s3.endpoint in the settings and the network"
        ) from error
    except RecursionError as error:  # botocore asks a server that redirects without end where the bucket is
        raise BucketRefused(f"{where} redirects to another region without end", "correct s3.region or s3.endpoint in the settings") from error
    except (BotoCoreError, ValueError) as error:
        raise BucketUnreachable(f"{where} cannot be used: {_brief(error)}", "check the section s3 of the settings") from error


def _from_answer(error: ClientError, access: S3Access, where: str) -> OutOfReach | SettingsError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _MISSING:
        return BucketMissing(f"there is no bucket '{access.bucket}' at {access.endpoint}", "make it there, or correct s3.bucket in the settings")
    if code in _REFUSED:
        return BucketRefused(f"{access.endpoint} refuses the credentials ({code})", "check access_key and secret_key in the credentials file")
    if code in _DENIED:
        return BucketRefused(
            f"the credentials may not use {where} ({code})", "check what they are allowed to do, and that the bucket exists under this name"
        )
    if code in _ELSEWHERE:
        return BucketRefused(f"{where} belongs to another region ({code})", "correct s3.region or s3.endpoint in the settings")
    if code in _WRONG_TIME:
        return BucketUnreachable(
            f"{access.endpoint} finds the time wrong that requests of this machine bear ({code})", "set the clock of this machine: timedatectl status"
        )
    return BucketUnreachable(f"{where} answers with an error: {code or status}", "try again later; if it lasts, look at the service")


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
