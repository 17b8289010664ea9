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
    (CONFIG + "Stat: The difference between the request time and the server's time is too large." + TAIL, e.Unreachable),
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


# As restic 0.18 writes them on standard error of commands with --json; the forms are those of its documentation ("Scripting") and its source.
NEWER = [
    (
        1,
        '{"message_type":"exit_error","code":1,"message":"Fatal: unable to open repository at s3:http://x: a message of the year 2040"}',
        e.UnknownFailure,
    ),
    (10, '{"message_type":"exit_error","code":10,"message":"Fatal: repository does not exist: unable to open config file"}', e.RepositoryMissing),
    (
        11,
        '{"message_type":"exit_error","code":11,"message":"unable to create lock in backend: repository is already locked exclusively by PID 7 on box'
        '\\nthe `unlock` command can be used to remove stale locks"}',
        e.Locked,
    ),
    (12, '{"message_type":"exit_error","code":12,"message":"Fatal: wrong password or no key found"}', e.WrongPassword),
    (1, '{"message_type":"exit_error","code":1,"message":"Fatal: wrong password or no key found"}', e.WrongPassword),  # 0.17.0, which knows no 12
    (
        1,
        '{"message_type":"error","message":"error: error loading index e5: LoadRaw(<index/e5>): invalid data returned\\n"}\n'
        '{"message_type":"exit_error","code":1,"message":"Fatal: repository contains errors"}',
        e.Damaged,
    ),
    (
        1,
        "error: error loading index de30: LoadRaw(<index/de30f3231c>): invalid data returned\n\n"
        "The repository index is damaged and must be repaired. You must run `restic repair index' to correct this.\n\n"
        "Fatal: repository contains errors\n",
        e.Damaged,
    ),
    (1, "Fatal: config or key 5f3c is damaged: ciphertext verification failed", e.Damaged),
    (
        1,
        "Load(<data/ab>, 0, 0) returned error, retrying after 1s: Get: dial tcp 192.0.2.1:443: i/o timeout\nFatal: There were 2 errors",
        e.Unreachable,
    ),
    (130, "signal interrupt received, cleaning up\n", e.UnknownFailure),
]


@pytest.mark.parametrize(("code", "stderr", "kind"), NEWER)
def test_newer_ones_are_told_apart(code: int, stderr: str, kind: type[e.ResticError]) -> None:
    found = e.classify("listing", code, stderr)
    assert type(found) is kind
    assert "message_type" not in found.message


TRACE = """Load(<snapshot/ab>) returned error
something was not expected
github.com/restic/restic/internal/errors.init
\tgithub.com/restic/restic/internal/errors/errors.go:12
main.main
\tcmd/restic/main.go:112
runtime.main
\truntime/proc.go:250
runtime.goexit
\truntime/asm_amd64.s:1594
"""


@pytest.mark.parametrize(
    ("stderr", "last"),
    [
        (NEWER[0][1], "Fatal: unable to open repository at s3:http://x: a message of the year 2040"),
        (TRACE, "something was not expected"),
        ('{"message_type":"exit_error","code":1,"message":"no\\n\\tcmd/restic/main.go:112"}', "no"),
        ("\n \n", "it printed nothing"),
        ('{"message_type":"exit_error","code":1}', "it printed nothing"),
    ],
)
def test_what_is_not_known_is_told_in_its_own_words(stderr: str, last: str) -> None:
    assert e.classify("listing", 1, stderr).message == f"listing: restic ended with code 1: {last}"


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
