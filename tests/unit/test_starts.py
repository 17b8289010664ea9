"""What a command loads before it works: a start is felt by every user, and paid a thousand times by the tests."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from config.cli import loading

SCRIPT = """
import sys
import gateway.commands.init, gateway.commands.client, gateway.commands.files
assert not {"structlog", "rich", "boto3", "asyncssh"} & sys.modules.keys(), "commands that ask a catalog"
import gateway.commands.roles, gateway.commands.up, gateway.sftp.role
assert "structlog" in sys.modules and not {"rich", "pygments", "boto3"} & sys.modules.keys(), "roles"
import rich.console
"""


def test_nothing_is_loaded_that_is_not_needed() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_garbage_is_sought_while_a_command_is_loaded() -> None:
    assert gc.isenabled()
    with loading():
        assert not gc.isenabled()
    with pytest.raises(ImportError), loading():
        raise ImportError
    assert gc.isenabled()
