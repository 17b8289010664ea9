"""The bell: tells at once that something landed, not what. The folder itself is the truth; a sweep finds what no event told of."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from watchdog.events import FileCreatedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class _Ring(FileSystemEventHandler):
    def __init__(self, bells: tuple[threading.Event, ...]) -> None:
        self._bells = bells

    def on_any_event(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - the shape of watchdog
        for bell in self._bells:
            bell.set()


@contextmanager
def watching(folder: Path, *bells: threading.Event) -> Iterator[bool]:
    """Set `bells` whenever a file appears in `folder`, while the block runs. Yields False when no events can be had: sweeps then do all."""
    observer = Observer()
    try:
        observer.schedule(_Ring(bells), str(folder), recursive=False, event_filter=[FileCreatedEvent, FileMovedEvent])
        observer.start()
    except OSError as error:  # the limit of inotify watches or instances, a file system without events
        structlog.get_logger().warning(
            "ingest.unwatched", folder=folder.name, error=str(error), do="papers wait for the sweep; raise fs.inotify.max_user_instances"
        )
        yield False
        return
    try:
        yield True
    finally:
        observer.stop()
        observer.join(5.0)
