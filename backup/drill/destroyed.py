"""What a drill does with destroyed clients: their papers are to be unreadable, so they are left out; a key of theirs is not to come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backup.drill.judge import Cause, Finding
from backup.drill.keycheck import KeyFile
from gateway.catalog import Catalog, Client


@dataclass(frozen=True)
class Destroyed:
    """The clients whose destruction has begun, and those of them for which it is done: proven."""

    begun: frozenset[str]
    done: frozenset[str]

    @classmethod
    def of(cls, live: Catalog) -> Destroyed:
        """As the live catalog has it: a dump may be older than the order."""
        found = live.destructions()
        return cls(frozenset(one.client for one in found), frozenset(one.client for one in found if one.state == "done"))

    def files(self, files: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
        """(client, paper, path) of all vault files but theirs: these stay in older snapshots, and nothing opens them."""
        return (file for file in files if file[0] not in self.begun)

    def clients(self, clients: Iterable[Client]) -> list[Client]:
        """All but they."""
        return [client for client in clients if client.name not in self.begun]

    def keys(self, restored: Mapping[str, KeyFile]) -> dict[str, KeyFile]:
        """The key files of everybody else."""
        return {name: file for name, file in restored.items() if file.client not in self.begun}

    def returned(self, restored: Mapping[str, KeyFile]) -> Sequence[Finding]:
        """Keys that came back although their destruction was proven. While it is pending they are expected to."""
        why = "its client was destroyed, and its key is in the backup again: run 'nightsafe client destroy' once more"
        return [
            Finding("", file.client, f"keys/{name}", 0, Cause.KEY_DIFFERS, why) for name, file in sorted(restored.items()) if file.client in self.done
        ]
