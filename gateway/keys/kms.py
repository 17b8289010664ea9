"""AWS KMS as the keeper of the master: what lies on the disk is an envelope that only a call to KMS opens, and each call is in KMS's own log.

The envelope is a line of JSON: {"nightsafe_master": 1, "kms_key": ARN, "ciphertext": base64}. The credentials for KMS come as boto3 finds them:
an instance role, or the environment. boto3 is imported here and in backup.bucket alone.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError, NoCredentialsError, PartialCredentialsError

from config.errors import NightsafeError, OutOfReach, SettingsError

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

FORMAT = 1
_CONTEXT = {"nightsafe": "master"}  # KMS opens a ciphertext only for those who name what it was sealed for; it also stands in KMS's log
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"max_attempts": 2, "mode": "standard"}, user_agent_extra="nightsafe")
_DAMAGED = {"InvalidCiphertextException", "IncorrectKeyException"}
_TEMPORARY = {"KMSInternalException", "DependencyTimeoutException", "ThrottlingException", "LimitExceededException"}


class KmsKey:
    """One key in KMS. `key` is its id, ARN or alias; `endpoint` is '' for AWS itself."""

    def __init__(self, key: str, region: str, endpoint: str) -> None:
        if not key:
            raise SettingsError("keys.kms_key is not set", "name the key in KMS by its ARN, id or alias")
        self._key = key
        self._region = region
        self._endpoint = endpoint

    def seal(self, data: bytes) -> bytes:
        """`data` (at most 4,096 bytes) in an envelope. Raises SettingsError, OutOfReach."""
        with self._client() as client:
            answer = client.encrypt(KeyId=self._key, Plaintext=data, EncryptionContext=_CONTEXT)
        ciphertext = base64.b64encode(answer["CiphertextBlob"]).decode()
        return json.dumps({"nightsafe_master": FORMAT, "kms_key": answer["KeyId"], "ciphertext": ciphertext}).encode() + b"\n"

    def open(self, envelope: bytes) -> bytes:
        """What is in an envelope. Raises SettingsError, OutOfReach."""
        ciphertext = _ciphertext(envelope)
        with self._client() as client:
            return client.decrypt(KeyId=self._key, CiphertextBlob=ciphertext, EncryptionContext=_CONTEXT)["Plaintext"]

    @contextmanager
    def _client(self) -> Iterator[KMSClient]:
        """A client, whose exceptions become ours. Their texts never hold what was sealed; they are cut all the same."""
        try:
            yield boto3.session.Session().client("kms", region_name=self._region, endpoint_url=self._endpoint or None, config=_CONFIG)
        except ClientError as error:
            raise self._from_answer(error) from None
        except (NoCredentialsError, PartialCredentialsError):
            raise SettingsError("there are no credentials for KMS", "give this machine a role, or set AWS_ACCESS_KEY_ID and its fellows") from None
        except (EndpointConnectionError, HTTPClientError) as error:
            raise OutOfReach(f"KMS cannot be reached: {_brief(error)}", "check the network, keys.kms_region and keys.kms_endpoint") from None
        except (BotoCoreError, ValueError) as error:
            raise SettingsError(f"KMS cannot be used: {_brief(error)}", "check keys.kms_region, keys.kms_endpoint and keys.kms_key") from None

    def _from_answer(self, error: ClientError) -> NightsafeError:
        code = str(error.response.get("Error", {}).get("Code", ""))[:80]
        if code in _DAMAGED:
            return SettingsError("KMS does not open the master's file: it is damaged, or of another key", "check keys.kms_file and keys.kms_key")
        if code in _TEMPORARY or int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500:
            return OutOfReach(f"KMS answers with an error ({code})", "try again later")
        return SettingsError(f"KMS refuses the key {self._key} ({code})", "may this role encrypt and decrypt with it, and is it enabled?")


def _ciphertext(envelope: bytes) -> bytes:
    try:
        values = json.loads(envelope)
        if values["nightsafe_master"] == FORMAT:
            return base64.b64decode(values["ciphertext"], validate=True)
    except (ValueError, TypeError, KeyError, binascii.Error, RecursionError):
        pass
    raise SettingsError("the master's file is no envelope of KMS", "make one with: nightsafe keys to-kms")


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
