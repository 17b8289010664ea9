"""Each of restic's failures is told apart. The texts were printed by restic 0.14 against SeaweedFS 4.48, unless said otherwise."""

from __future__ import annotations

import pytest

from backup.restic import errors as e
from config.errors import Exit

CONFIG = "Fatal: unable to open config file: "
TAIL = "\nIs there a repository at the following location?\ns3:http://127.0.0.1:48863/nightsafe/papers\n"

CASES = [
    (CONFIG + "Stat: The specified key does not exist." + TAIL, e.RepositoryMissing),
    (CONFIG + "Stat: The specified bucket does not exist" + TAIL, e.RepositoryMissing),
    (CONFIG + "stat nothere/config: no such file or directory" + TAIL, e.RepositoryMissing),
    (CONFIG + "Stat: The access key ID you provided does not exist in our records." + TAIL, e.CredentialsRefused),
    (
        CONFIG + "Stat: The request signature we calculated does not match the signature you provided. Check your key and signing method." + TAIL,
        e.CredentialsRefused,
    ),
    (CONFIG + "Stat: Access Denied." + TAIL, e.CredentialsRefused),
    ("Fatal: create key in repository at s3:http://x failed: client.PutObject: Access Denied.\n\n", e.CredentialsRefused),
    (CONFIG + 'Stat: Get "http://127.0.0.1:1/n/?location=": dial tcp 127.0.0.1:1: connect: connection refused' + TAIL, e.Unreachable),
    (CONFIG + 'Stat: Get "http://nohost.invalid/n/?location=": dial tcp: lookup nohost.invalid on 192.0.2.53:53: no such host' + TAIL, e.Unreachable),
    ("Save(<data/ab>) returned error, retrying after 1s: Service Unavailable\nFatal: Reduce your request rate", e.Unreachable),
    ("Fatal: wrong password or no key found\n", e.WrongPassword),
    ("Fatal: unable to create lock in backend: repository is already locked exclusively by PID 12 on box by root (UID 0, GID 0)\n", e.Locked),
    ("write /scratch/x: no space left on device\nFatal: There were 1 errors\n", e.DiskFull),
    ("Pack ID does not match, want 69c29a14, got fa450d27\nFatal: repository contains errors\n", e.Damaged),
    ("  decrypting blob e80e failed: ciphertext verification failed\n", e.Damaged),
    ("Load(<data/69c29a146d>, 0, 0) returned error, retrying after 1s: The specified key does not exist.\nFatal: There were 1 errors", e.Damaged),
    ("Fatal: a message of the year 2040\n", e.UnknownFailure),
    ("", e.UnknownFailure),
]


@pytest.mark.parametrize(("stderr", "kind"), CASES)
def test_words_decide_in_014(stderr: str, kind: type[e.ResticError]) -> None:
    found = e.classify("backing up", 1, stderr)
    assert type(found) is kind
    assert found.message.startswith("backing up: ")
    assert "\n" not in found.message
    assert found.detail == stderr


@pytest.mark.parametrize(("code", "kind"), [(10, e.RepositoryMissing), (11, e.Locked), (12, e.WrongPassword)])
def test_codes_of_017_decide_without_words(code: int, kind: type[e.ResticError]) -> None:
    assert type(e.classify("opening", code, "Fatal: something in other words")) is kind


@pytest.mark.parametrize("code", [2, 9, 13, 130, -9])
def test_an_unknown_code_is_a_failure(code: int) -> None:
    assert type(e.classify("opening", code, "")) is e.UnknownFailure


def test_exit_codes_are_those_of_the_design() -> None:
    codes = {
        e.RepositoryMissing: Exit.BAD,
        e.WrongPassword: Exit.USAGE,
        e.CredentialsRefused: Exit.USAGE,
        e.Locked: Exit.BUSY,
        e.Unreachable: Exit.OUT_OF_REACH,
        e.TimedOut: Exit.OUT_OF_REACH,
        e.DiskFull: Exit.OUT_OF_REACH,
        e.Damaged: Exit.BAD,
        e.UnknownFailure: Exit.BAD,
    }
    assert {kind: kind.exit_code for kind in codes} == codes
