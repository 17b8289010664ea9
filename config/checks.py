"""Settings of the checks that a paper passes before it is accepted: rules, classes, the virus scan, archives."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from config.section import Section

Otherwise = Literal["hold", "accept", "refuse"]
MIB = 1024 * 1024


class Match(Section):
    """Which papers: all three patterns must fit. `*` stands for anything, `/` included; capital letters count as small ones."""

    client: str = Field("*", min_length=1, max_length=200, description="Pattern of the client's name.")
    folder: str = Field("*", min_length=1, max_length=1000, description="Pattern of the folder, as in /inbox/payroll*.")
    name: str = Field("*", min_length=1, max_length=1000, description="Pattern of the paper's own name, as in *.pdf.")


class Rule(Match):
    """What is asked of the papers that match. A paper that breaks it is refused, or held where `breach = "hold"`."""

    breach: Literal["refuse", "hold"] = Field("refuse", description="What becomes of a paper that breaks the rule.")
    smallest_bytes: int = Field(0, ge=0, description="Least size.")
    largest_bytes: int | None = Field(None, ge=0, description="Largest size.")
    extensions: tuple[str, ...] = Field((), max_length=1000, description="Allowed endings, without the dot; empty allows all.")
    forbidden_names: tuple[str, ...] = Field((), max_length=1000, description="Patterns of names that are not taken, also inside of archives.")
    papers_per_day: int | None = Field(None, ge=0, le=1_000_000, description="Papers of the client in one day (UTC).")
    match_type: bool = Field(False, description="The content must be what the ending says.")
    archives: bool = Field(False, description="Look into zip archives, within the limits of [archives].")
    scan: bool = Field(True, description="Scan for viruses, when scanning is on.")

    @field_validator("extensions")
    @classmethod
    def _extensions(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(one.lower().lstrip(".") for one in value)


class ClassRule(Match):
    """The class of the papers that match."""

    type: str = Field("*", min_length=1, max_length=100, description="Pattern of the type that the content shows, as in pdf.")
    class_name: str = Field(alias="class", pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$", description="The class.")


class ChecksSettings(Section):
    """What is asked of papers before they are accepted, and the limits of the processes that look into them."""

    rules: tuple[Rule, ...] = Field(
        (), max_length=1000, description="Tables [[checks.rules]]; for each paper the first that matches counts: docs/reference/checks.md."
    )
    classes: tuple[ClassRule, ...] = Field(
        (), max_length=1000, description="Tables [[checks.classes]]; for each paper the first that matches gives its class."
    )
    manifests: bool = Field(True, description="Compare SHA256SUMS and *.sha256 from a client with what arrived.")
    quick_seconds: float = Field(1.0, gt=0, le=60, description="Checks of one paper that take longer go on beside the others, so that nobody waits.")
    seconds: float = Field(60.0, gt=0, le=3600, description="Time after which a check of one paper is stopped.")
    memory_bytes: int = Field(512 * MIB, ge=192 * MIB, description="Address space of a process that looks into papers.")


class ScanSettings(Section):
    """The virus scan. Off by default; docs/how-to/scan-for-viruses.md switches it on."""

    scanner: Literal["off", "clamd", "command"] = Field("off", description="What scans.")
    address: str = Field("/run/clamav/clamd.ctl", min_length=1, description="Where clamd listens: the path of a socket, or HOST:PORT.")
    command: tuple[str, ...] = Field((), description="Program and arguments; reads the paper from standard input, ends with 0 (clean) or 1 (found).")
    unavailable: Otherwise = Field("hold", description="What becomes of papers while the scanner is down, too slow or out of date.")
    too_large: Otherwise = Field("refuse", description="What becomes of papers that are too large for the scanner.")
    largest_bytes: int = Field(
        25 * MIB, gt=0, description="Larger papers are too large to scan: the least of clamd's StreamMaxLength, MaxFileSize and MaxScanSize."
    )
    seconds: float = Field(120.0, gt=0, le=3600, description="Time that the scanner may take for an answer, or to take the next piece.")
    signatures_hours: float = Field(168.0, ge=0, description="Age at which clamd's signatures are out of date; 0 does not look at it.")
    clamd_config: Path | None = Field(
        None, description="clamd's own settings, to check its limits and temporary folder, where it runs on this machine."
    )

    @model_validator(mode="after")
    def _whole(self) -> ScanSettings:
        if self.scanner == "command" and not self.command:
            raise ValueError('scanner = \'command\' needs a command, as in command = ["/usr/local/bin/scan", "-"]')
        return self


class ArchiveSettings(Section):
    """Limits of what a rule with `archives = true` looks into."""

    largest_ratio: float = Field(200.0, ge=1, description="Unpacked size to packed size of one entry, above 1 MiB unpacked.")
    largest_bytes: int = Field(4096 * MIB, gt=0, description="Unpacked size of all that is in one archive, archives inside included.")
    entries: int = Field(10_000, ge=1, le=1_000_000, description="Entries of one archive, those of archives inside included.")
    depth: int = Field(3, ge=1, le=16, description="Archives within archives.")
    inner_bytes: int = Field(64 * MIB, gt=0, description="Size of an archive within an archive; it is unpacked in memory.")
    locked: Otherwise = Field("hold", description="What becomes of an encrypted archive without an agreed password that opens it.")
    unreadable: Otherwise = Field(
        "hold", description="What becomes of an archive that cannot be looked into: packed by an unknown method or, where scanning is on, damaged."
    )
