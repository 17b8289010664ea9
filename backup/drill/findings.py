"""What a rehearsal found: about the repositories, the papers and the time it took. The verdict on it is `conclusion`'s."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from backup.drill.coverage import Coverage
from backup.drill.sample import Draw
from backup.drill.verify import Tally
from backup.report.evidence import RepositoryFacts, Stage


@dataclass
class Findings:
    """What came out so far; complete enough for evidence at any moment."""

    causes: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)  # what allows no verdict and is not the backup's fault
    tally: Tally = field(default_factory=Tally)
    stages: list[Stage] = field(default_factory=list)
    papers: RepositoryFacts = field(default_factory=RepositoryFacts)
    keys: RepositoryFacts = field(default_factory=RepositoryFacts)
    dump_at: datetime | None = None
    of: int = 0
    drawn: int = 0
    draw: Draw | None = None
    young: list[str] = field(default_factory=list)  # of a full drill: what came so shortly before the dump that times alone do not tell it was there
    coverage: Coverage | None = None
    restored_files: int = 0
    restored_bytes: int = 0
    keys_compared: int = 0
    notes: list[str] = field(default_factory=list)
    restic: str = ""  # its version

    def blame(self, cause: str) -> str:
        """Name what is wrong with the repository, once; the cause again."""
        if cause not in self.causes:
            self.causes.append(cause)
        return cause

    @property
    def is_bad(self) -> bool:
        """Whether anything is wrong with the backup."""
        return bool(self.causes or self.tally.by_cause)


class BackupBad(Exception):
    """Nothing further can be looked at; the cause is in the findings already."""
