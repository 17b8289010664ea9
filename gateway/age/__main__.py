"""`python -m gateway.age`: decrypt, encrypt and keygen, streaming between files and pipes with bounded memory."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from getpass import getpass
from pathlib import Path
from typing import BinaryIO, TypeVar

from config.console import complain, end_output
from config.errors import Exit, NightsafeError, OutOfReach, UsageError
from gateway.age import Identity, Recipient, ScryptIdentity, ScryptRecipient, open_stream, parse_identities, seal
from gateway.age.sealing import AnyIdentity, AnyRecipient

PIECE = 1024 * 1024  # bytes moved at a time
IDENTITY_FILE_MAX = 1024 * 1024

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Errors go to standard error without a traceback."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except NightsafeError as error:
        complain(error)
        end_output()
        return error.exit_code
    except BrokenPipeError:
        end_output()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return Exit.DONE


def decrypt(options: argparse.Namespace) -> None:
    """Authenticated plaintext to standard output, as far as the file is right."""
    identities: list[AnyIdentity] = [identity for path in options.identity for identity in _identities(path, options.file)]
    if options.passphrase:
        identities.append(ScryptIdentity(_passphrase("Passphrase: ")))
    if not identities:
        raise UsageError("decrypt needs an identity file (-i) or a passphrase (-p)")
    with _source(options.file) as source, _output() as sink:
        pieces = _reading(lambda: open_stream(source, identities))
        while (piece := _reading(lambda: next(pieces, None))) is not None:
            sink.write(piece)


def encrypt(options: argparse.Namespace) -> None:
    """A binary age file to standard output."""
    recipients: list[AnyRecipient] = [Recipient.parse(text.strip()) for text in options.recipient]
    if options.passphrase:
        recipients.append(ScryptRecipient(_new_passphrase()))
    if not recipients:
        raise UsageError("encrypt needs a recipient (-r) or a passphrase (-p)")
    if sys.stdout.isatty():
        raise UsageError("an age file is binary: send it to a file or a pipe, not to the terminal")
    buffer = memoryview(bytearray(PIECE))
    with _source(options.file) as source, _output() as sink, seal(sink, recipients) as writer:
        while count := _reading(lambda: source.readinto(buffer)):  # type: ignore[attr-defined]  # files opened here have it
            writer.write(buffer[:count])


def keygen(options: argparse.Namespace) -> None:  # noqa: ARG001 - the shape of a command
    """A new identity file to standard output."""
    identity = Identity.generate()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with _output() as sink:
        sink.write(f"# created: {now}\n# public key: {identity.recipient}\n{identity.encode()}\n".encode())
    if not sys.stdout.isatty():
        sys.stderr.write(f"Public key: {identity.recipient}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.age", description="Seal and open age v1 files.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    opening = commands.add_parser("decrypt", help="open an age file (binary or armoured) to standard output")
    opening.add_argument(
        "-i",
        "--identity",
        action="append",
        default=[],
        metavar="IDENTITY_FILE",
        help="file with AGE-SECRET-KEY-1… lines; - for standard input; may be repeated",
    )
    opening.add_argument("-p", "--passphrase", action="store_true", help="ask for a passphrase")
    opening.set_defaults(command=decrypt)

    sealing = commands.add_parser("encrypt", help="seal to standard output")
    sealing.add_argument("-r", "--recipient", action="append", default=[], metavar="RECIPIENT", help="age1…; may be repeated")
    sealing.add_argument("-p", "--passphrase", action="store_true", help="ask for a passphrase")
    sealing.set_defaults(command=encrypt)

    for command in (opening, sealing):
        command.add_argument("file", nargs="?", default="-", metavar="FILE", help="standard input when it is left out or -")
    commands.add_parser("keygen", help="print a new identity file").set_defaults(command=keygen)
    return parser


def _identities(path: str, file: str) -> list[Identity]:
    if path == file == "-":
        raise UsageError("the identity and the age file cannot both come from standard input")
    with _source(path) as source:
        text = _reading(lambda: source.read(IDENTITY_FILE_MAX + 1))
    if len(text) > IDENTITY_FILE_MAX:
        raise UsageError(f"the identity file is larger than {IDENTITY_FILE_MAX} bytes")
    return parse_identities(text.decode("utf-8", "replace"))


def _new_passphrase() -> str:
    passphrase = _passphrase("Passphrase: ")
    if _passphrase("Again: ") != passphrase:
        raise UsageError("the two passphrases differ")
    return passphrase


def _passphrase(prompt: str) -> str:
    try:
        return getpass(prompt)
    except (EOFError, OSError) as error:
        raise UsageError("there is no terminal to ask for the passphrase") from error


@contextmanager
def _source(path: str) -> Iterator[BinaryIO]:
    """The file to read, or standard input for -."""
    if path == "-":
        yield sys.stdin.buffer
        return
    with _reading(lambda: Path(path).open("rb")) as file:
        yield file


@contextmanager
def _output() -> Iterator[BinaryIO]:
    """Standard output, flushed at the end; a disk that is full becomes an error for people."""
    sink = sys.stdout.buffer
    try:
        yield sink
        sink.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutOfReach(f"cannot write: {error.strerror}") from error


def _reading(action: Callable[[], T]) -> T:
    """`action`, whose OSError is one of reading."""
    try:
        return action()
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror}" + (f": {error.filename}" if error.filename else "")) from error


if __name__ == "__main__":
    sys.exit(main())
