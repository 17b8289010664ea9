"""The proof of a destruction: with every secret and every retained snapshot at hand, none of the client's papers opens.

    hoard: master, data folder, every snapshot of every key repository → all identities that can be had
    look:  is one of them the client's? is a key file of the client in any repository, under whatever name?
    try:   each paper's header (from the vault, else from a snapshot) with each identity

Failing to open is the proof; so what could not be looked at is an obstacle, and no proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup.destruction.hoard import CONTENT, Hoard
from backup.destruction.repositories import Means, secret_hashes
from backup.drill.repositories import open_for_reading, probe
from backup.drill.scratch import remove_tree, scratch_folder
from backup.drill.verify import vault_path
from backup.plan import iso
from backup.repositories.places import split_name
from backup.restic import Restic
from backup.restic.arguments import literal
from config.console import Progress, Silent
from config.errors import OutOfReach
from config.words import counted
from gateway.age import AgeError, Identity, NoMatchError, header_mac, read_header, unwrap
from gateway.catalog import Client, Destruction, Paper
from gateway.store import Vault, VaultGone

NAMED = 100
PATTERNS = 2000


@dataclass
class Proof:
    """What was tried, and what came of it. `copies` are places of keys that should be gone, `opened` papers that opened; bounded lists."""

    papers: int = 0
    identities: int = 0
    files: int = 0
    snapshots: int = 0
    no_ciphertext: int = 0  # papers of which nothing sealed is left anywhere: nothing to try
    copies: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    opened_total: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing opened, and no key was found."""
        return not self.copies and not self.opened_total

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "holds": self.holds, "at": iso(datetime.now(UTC))}


def prove(
    means: Means, client: Client, destruction: Destruction, identities: Mapping[str, Identity], progress: Progress | None = None
) -> tuple[Proof, list[str]]:
    """Try everything. `identities` are those at hand, by the place they come from: the master, and a recovery identity when somebody brought it.

    Returns the proof, and the repositories in which a key was found. Raises OutOfReach, ResticError when something could not be looked at.
    """
    proof, progress = Proof(), progress or Silent()
    hashes = secret_hashes(destruction)
    own = {key.recipient for key in client.keys} | {str(key["recipient"]) for key in destruction.keys if key.get("recipient")}
    hoard = Hoard(wanted=hashes)
    for place, identity in identities.items():
        hoard.add(identity, place)
    bad: list[str] = []
    with scratch_folder(means.installation, "proof") as scratch:
        known = [one.name for one in means.catalog.repositories()]
        for copy in sorted({split_name(name)[1] for name in known}):
            probe(means.installation, means.secrets, copy)
        hoard.search(means.installation.folder.root, "the data folder", CONTENT)
        for name in known:
            repository, copy = split_name(name)
            restic = open_for_reading(means.installation, repository, means.secrets, scratch, means.cancel, copy)
            if found := restic.holds_blobs(hashes):
                proof.copies.append(f"the repository '{name}' holds {counted(len(found), 'key file')} in its packs")
                bad.append(name)
            if repository == "keys":
                _search_snapshots(restic, name, hoard, scratch, proof, progress)
        hoard.open_all()
        opened = {hoard.places[recipient] for recipient in own & hoard.identities.keys()}
        for place in sorted(opened | set(hoard.copies)):
            proof.copies.append(place)
            bad += [name for name in known if place.startswith(f"repository '{name}'")]
        proof.identities, proof.files = len(hoard.identities), hoard.files
        papers = open_for_reading(means.installation, "papers", means.secrets, scratch, means.cancel) if "papers" in known else None
        _try_papers(means, client.name, list(hoard.identities.values()), papers, scratch, proof, progress)
    return proof, sorted(set(bad))


def _search_snapshots(restic: Restic, name: str, hoard: Hoard, scratch: Path, proof: Proof, progress: Progress) -> None:
    snapshots = restic.snapshots()
    for number, snapshot in enumerate(snapshots):
        progress.update(number, len(snapshots), f"snapshots of '{name}'")
        target = scratch / "snapshot"
        if faults := restic.restore(snapshot.id, target).faults:
            raise OutOfReach(f"the snapshot {snapshot.short} of '{name}' could not be looked at: {faults[0].message[:200]}", "try again")
        hoard.search(target, f"repository '{name}', snapshot {snapshot.short}")
        remove_tree(target)
        proof.snapshots += 1


def _try_papers(
    means: Means, client: str, identities: Sequence[Identity], papers: Restic | None, scratch: Path, proof: Proof, progress: Progress
) -> None:
    """Each paper that was sealed. Headers come from the vault; what is missing there, from the snapshots, newest first."""
    total, _ = means.catalog.count_papers(client)
    vault = Vault(means.installation.folder.vault)
    quarantine = Vault(means.installation.folder.quarantine)
    missing: dict[str, Paper] = {}
    for paper in means.catalog.papers(client):
        if not paper.sealed_size:
            continue
        proof.papers += 1
        progress.update(proof.papers, total, "papers")
        header = _header(vault, paper) or _header(quarantine, paper)
        if header is None:
            missing[paper.id] = paper
        else:
            _try(paper, header, identities, proof)
    if missing and papers is not None:
        for header, paper in _from_snapshots(papers, missing, scratch):
            _try(paper, header, identities, proof)
    proof.no_ciphertext = len(missing)


def _try(paper: Paper, header: bytes, identities: Sequence[Identity], proof: Proof) -> None:
    try:
        unwrap(header, identities)
    except NoMatchError:
        return
    except AgeError:  # a stanza opened, and the rest is damaged: a key is there all the same
        pass
    proof.opened_total += 1
    if len(proof.opened) < NAMED:
        proof.opened.append(f"{paper.path} (version {paper.version})")


def _header(vault: Vault, paper: Paper) -> bytes | None:
    """The header of the sealed file; None when there is none, or it is not the one that was catalogued."""
    try:
        header = vault.header(paper.client, paper.id)
    except (VaultGone, AgeError):
        return None
    return header if header_mac(header).hex() == paper.header_mac else None


def _from_snapshots(restic: Restic, missing: dict[str, Paper], scratch: Path) -> Iterator[tuple[bytes, Paper]]:
    """(header, paper) of what a snapshot still has; what was found leaves `missing`."""
    for snapshot in reversed(restic.snapshots()):
        wanted = list(missing.values())
        for start in range(0, len(wanted), PATTERNS):
            batch = wanted[start : start + PATTERNS]
            target = scratch / "papers"
            restic.restore(snapshot.id, target, includes=["/vault/" + literal(vault_path(paper.client, paper.id)) for paper in batch])
            for paper in batch:
                header = _read(target / "vault" / vault_path(paper.client, paper.id))
                if header is not None:
                    del missing[paper.id]
                    yield header, paper
            remove_tree(target)
        if not missing:
            return


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return read_header(file)
    except (OSError, AgeError):
        return None
