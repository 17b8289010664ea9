"""A session of the staff or of an auditor: several clients' folders in one tree.

| role | sees |
| --- | --- |
| staff | `/CLIENT/inbox`, `/CLIENT/outbox`, `/CLIENT/receipts` of the clients assigned to them |
| auditor | `/clients/CLIENT/receipts` of every client, `/evidence` |

A request goes to the one who serves the folder that it names, with the rest of its path; a handle carries the number of who gave it out.
Nobody else's name is ever looked up, so nothing tells a client that is not assigned from one that does not exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence, Sized
from typing import Any, Protocol

from gateway.jail import Refused, VirtualPath, parse
from gateway.jail.shelf import NamesShelf, Shelf
from gateway.sftp.limits.pace import Pace
from gateway.sftp.protocol import replies
from gateway.sftp.protocol import requests as ask
from gateway.sftp.protocol.wire import VERSION, Status
from gateway.sftp.session.explaining import explain
from gateway.sftp.session.handles import HandleTable, prefix_of
from gateway.sftp.session.looking import Looking
from gateway.sftp.session.operations import Operations, Reply
from gateway.sftp.session.recording import SessionRecord
from gateway.sftp.session.visitor import Visitor
from gateway.sftp.workers.remote import RemotePart

CLIENTS, EVIDENCE = "clients", "evidence"


OfClient = Operations | RemotePart


class Part(Protocol):
    """Who serves one folder of the tree."""

    @property
    def handles(self) -> Sized:
        """Those that are open."""
        ...

    def answer(self, request: Any) -> Reply:
        """The reply to a request; see `Operations.answer`."""
        ...

    async def abandon(self) -> None:
        """Give up every handle as lost."""
        ...


class Desk:
    """The requests of one session. `open_client(name, number)` gives the operations on one client's jail, handles numbered by `number`."""

    def __init__(
        self,
        visitor: Visitor,
        record: SessionRecord,
        run: Callable[[Callable[[], Any]], Coroutine[Any, Any, Any]],
        *,
        clients: Sequence[str],
        open_client: Callable[[str, int], OfClient],
        max_handles: int,
        evidence: Shelf | None = None,
    ) -> None:
        self._visitor = visitor
        self._record = record
        self._run = run
        self._clients = frozenset(clients)
        self._open_client = open_client
        self._max_handles = max_handles
        self._evidence = evidence
        self._top = () if evidence is None else (CLIENTS,)
        self._parts: dict[str, Part] = {}
        self._by_number: list[Part] = []
        self._is_ending = False
        self._greeted = False
        self.pace = Pace()
        names = tuple(sorted(clients))
        folders: dict[tuple[str, ...], tuple[str, ...]] = {(): names} if evidence is None else {(): (CLIENTS, EVIDENCE), (CLIENTS,): names}
        self._root = self._add("", self._looking(NamesShelf(folders, time.time()), ""))

    def answer(self, request: ask.Request) -> Reply:
        """The reply to `request`; see `Operations.answer`."""
        if isinstance(request, ask.Init):
            return self._greet(request)
        if not self._greeted:
            raise ask.Malformed("a request before the greeting")
        try:
            return self._route(request)
        except Exception as error:  # noqa: BLE001 - one request's failure is its reply, not the session's end
            code, text = explain(error, self._visitor.session)
            if code is Status.PERMISSION_DENIED:
                self._record.refused(type(request).__name__, "", text)
            return replies.status(request.id, code, text)

    async def abandon(self) -> None:
        """The connection is gone: no handle was closed by the client."""
        for part in self._by_number:
            await part.abandon()

    @property
    def is_transferring(self) -> bool:
        """Whether a paper is open."""
        return any(isinstance(part, OfClient) and part.is_transferring for part in self._by_number)

    @property
    def is_ending(self) -> bool:
        """The server stops: nothing further is opened."""
        return self._is_ending

    @is_ending.setter
    def is_ending(self, value: bool) -> None:
        self._is_ending = value
        for part in self._by_number:
            if isinstance(part, OfClient):
                part.is_ending = value

    def _greet(self, request: ask.Init) -> bytes:
        if self._greeted or request.version < VERSION:
            raise ask.Malformed("a client that speaks SFTP 3 was expected, and one greeting")
        self._greeted = True
        return replies.version()

    def _route(self, request: Any) -> Reply:
        match request:
            case ask.RealPath(number, raw):
                return replies.real_path(number, str(parse(raw)))
            case ask.Limits(number):
                return replies.limits(number, self._max_handles)
            case ask.Unsupported(number, what):
                return replies.status(number, Status.OP_UNSUPPORTED, f"{what[:64]} is not offered here")
            case ask.Rename():
                part, source = self._part_of(parse(request.source))
                other, target = self._part_of(parse(request.target))
                if part is not other:
                    raise Refused("permission", "a paper stays with its client; download it and upload it anew")
                return self._pass(part, request._replace(source=str(source).encode(), target=str(target).encode()))
            case ask.Open() | ask.OpenFolder():
                self._check_room()
        if hasattr(request, "handle"):
            return self._pass(self._holder_of(request.handle), request)
        part, path = self._part_of(parse(request.path))
        return self._pass(part, request._replace(path=str(path).encode()))

    def _pass(self, part: Part, request: Any) -> Reply:
        if isinstance(part, OfClient):
            self.pace = part.pace
        return part.answer(request)

    def _check_room(self) -> None:
        if sum(len(part.handles) for part in self._by_number) >= self._max_handles:
            raise Refused("failure", f"too many open files; at most {self._max_handles} in one session")

    def _holder_of(self, handle: bytes) -> Part:
        number = prefix_of(handle)
        if number >= len(self._by_number):
            raise Refused("failure", "invalid handle")
        return self._by_number[number]

    def _part_of(self, path: VirtualPath) -> tuple[Part, VirtualPath]:
        """Who serves `path`, and the path for them."""
        depth = len(self._top)
        if self._evidence is not None and path.folder == EVIDENCE:
            part = self._parts.get("/evidence") or self._add("/evidence", self._looking(self._evidence, "/evidence"))
            return part, VirtualPath(path.parts[1:])
        if path.parts[:depth] == self._top and len(path.parts) > depth:
            name = path.parts[depth]
            if name not in self._clients:
                raise Refused("no_such_file", "no such file or folder")
            return self._client(name), VirtualPath(path.parts[depth + 1 :])
        return self._root, path

    def _client(self, name: str) -> Part:
        if name in self._parts:
            return self._parts[name]
        opened = self._open_client(name, len(self._by_number))
        opened.is_ending = self._is_ending
        opened.answer(ask.Init(VERSION))
        return self._add(name, opened)

    def _looking(self, shelf: Shelf, shown: str) -> Looking:
        table = HandleTable(self._max_handles, prefix=len(self._by_number))
        owner = self._visitor.person
        return Looking(shelf, self._record, self._run, table, owner=owner, session=self._visitor.session, shown=shown)

    def _add(self, name: str, part: Part) -> Part:
        self._parts[name] = part
        self._by_number.append(part)
        return part
