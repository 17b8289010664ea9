"""Stands in for the worker process, and does to its parent what the name of the paper says."""

from __future__ import annotations

import io
import os
import sys
import time

from gateway.ingest.checks import wire
from gateway.ingest.checks.isolation import confine


def main() -> None:
    out = io.FileIO(1, "wb", closefd=False)
    confine(int(sys.argv[1]))
    out.write(wire.encode_json(wire.RESULT, {"ready": True}))
    while True:
        _, data = wire.receive(lambda count: sys.stdin.buffer.read(count))
        match wire.decode_json(data)["name"]:
            case "hang":
                time.sleep(3600)
            case "crash":
                os.abort()
            case "memory":
                _ = bytearray(8 * 1024**3)
            case "files":
                sys.exit(0 if _opens() else 7)
            case "greedy":
                while True:
                    out.write(wire.encode(wire.READ, wire.SPAN.pack(0, 1024)))
                    wire.receive(lambda count: sys.stdin.buffer.read(count))
            case "nonsense":
                out.write(b"\xff" * 4096)
            case "huge":
                out.write(wire.HEAD.pack(b"F", 2**32 - 1))
            case _:
                out.write(wire.encode_json(wire.RESULT, {"type": "fine", "misfit": "", "fault": None}))


def _opens() -> bool:
    try:
        os.open("/etc/hostname", os.O_RDONLY)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
