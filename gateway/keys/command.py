"""The master from a program that prints it, such as a password manager's or a secrets manager's. Its output and its time are bounded.

No shell: the words are the program and its arguments, and they are in everybody's sight, so no secret belongs there. What it writes on standard
error is thrown away: it might quote the secret.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from config.errors import OutOfReach, SettingsError
from config.words import counted
from gateway.age import Identity
from gateway.keys.identities import parse_identity
from gateway.keys.master import MAX_BYTES, not_ours


class MasterCommand:
    """A MasterSource."""

    def __init__(self, words: Sequence[str], seconds: float) -> None:
        if not words:
            raise SettingsError("keys.master_source is 'command', but keys.master_command is empty", 'as in: master_command = ["pass", "show"]')
        self._words = list(words)
        self._seconds = seconds

    def load(self) -> Identity:
        """See MasterSource."""
        return parse_identity(self._output(), f"what the command '{self._words[0]}' prints")

    make = load

    def prepare(self) -> Identity:
        """See MasterSource. It is not ours to change."""
        raise not_ours("a command")

    def switch(self) -> None:
        """Never: see `prepare`."""
        raise not_ours("a command")

    def _output(self) -> bytes:
        try:
            process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, bufsize=0
            )
        except OSError as error:
            raise SettingsError(f"the command '{self._words[0]}' cannot be started: {error.strerror}", "check keys.master_command") from error
        try:
            data = self._read(process, time.monotonic() + self._seconds)
            code = process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            raise self._late() from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout:
                process.stdout.close()
        if code:
            raise OutOfReach(f"the command '{self._words[0]}' ended with code {code}", "run it by hand: it must print the master identity")
        return data

    def _read(self, process: subprocess.Popen[bytes], until: float) -> bytes:
        assert process.stdout is not None  # noqa: S101 - asked for above
        data = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, until - time.monotonic())):
                piece = process.stdout.read(MAX_BYTES)
                if not piece:
                    return bytes(data)
                data += piece
                if len(data) > MAX_BYTES:
                    raise SettingsError(f"the command '{self._words[0]}' prints more than a master identity", "check keys.master_command")
        raise self._late()

    def _late(self) -> OutOfReach:
        return OutOfReach(
            f"the command '{self._words[0]}' did not end within {counted(round(self._seconds), 'second')}",
            "does it ask for something? see keys.master_command",
        )
