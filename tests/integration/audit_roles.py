"""Which role writes which event, as docs/reference/events.md tells it: held against every line that the product writes in a test's process."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from gateway.audit.events import Event
from gateway.audit.log import AuditLog

DOCS = Path(__file__).parents[2] / "scripts" / "docs"


def told_events() -> Mapping[str, tuple[str, tuple[str, ...], str]]:
    """event → (roles, fields, meaning), from the program that writes the page."""
    loader = SourceFileLoader("scripts_docs_events", str(DOCS))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    found: Mapping[str, tuple[str, tuple[str, ...], str]] = module.EVENTS
    return found


@contextmanager
def roles_held() -> Iterator[None]:
    """Until the end, a line that one of our own modules writes into the segment of a role which the page does not name is an error."""
    told = told_events()
    append = AuditLog.append

    def checked(self: AuditLog, event: Event, *, durable: bool = False, **fields: Any) -> str:
        writer = str(sys._getframe(1).f_globals.get("__name__", ""))
        roles = told[event.value][0].split(", ")
        if writer.startswith(("gateway.", "backup.")) and not writer.startswith("gateway.audit.") and self._role not in roles:
            raise AssertionError(f"{writer} writes {event.value} into the segment of '{self._role}', not of: {', '.join(roles)}")
        return append(self, event, durable=durable, **fields)

    AuditLog.append = checked  # type: ignore[method-assign]
    try:
        yield
    finally:
        AuditLog.append = append  # type: ignore[method-assign]
