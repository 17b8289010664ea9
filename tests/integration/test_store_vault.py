"""The vault on a real file system, read back by ourselves and by Debian's age."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config.errors import UsageError
from gateway.age import Identity, NoMatchError, header_mac, unwrap
from gateway.store import SealedPaper, Vault, VaultGone, new_paper_id
from gateway.store import vault as vaults

IDENTITY = Identity.generate()
SIZES = [0, 1, 20_000, 65_535, 65_536, 65_537, 3_000_000]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


def keep(vault: Vault, paper: str, data: bytes, step: int = 65_536) -> SealedPaper:
    with vault.writer("acme", paper, IDENTITY.recipient) as writer:
        for offset in range(0, len(data), step):
            writer.write(data[offset : offset + step])
        return writer.commit()


def files(vault: Vault) -> list[Path]:
    return [path for path in vault.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1_000_000, 65_536, 9_999])
def test_sealed_papers_are_what_the_catalog_is_told(vault: Vault, size: int, step: int) -> None:
    data, paper = os.urandom(size), new_paper_id()
    sealed = keep(vault, paper, data, step)
    path = vault.path("acme", paper)
    assert path == vault.root / "acme" / paper[-2:] / f"{paper}.age"
    raw = path.read_bytes()
    header = vault.header("acme", paper)
    assert raw.startswith(header)
    assert sealed == SealedPaper(size, len(raw), hashlib.sha256(raw).hexdigest(), header_mac(header).hex())
    assert path.stat().st_mode & 0o777 == 0o600
    with vault.open("acme", paper, identities=[IDENTITY]) as reader:
        assert reader.read() == data
    with vault.open("acme", paper, file_key=unwrap(header, [IDENTITY])) as reader:
        assert reader.size == size


def test_debians_age_opens_it(vault: Vault, tmp_path: Path) -> None:
    data, paper = os.urandom(200_000), new_paper_id()
    keep(vault, paper, data)
    key = tmp_path / "key"
    key.write_text(IDENTITY.encode() + "\n")
    opened = subprocess.run(["age", "-d", "-i", str(key), str(vault.path("acme", paper))], capture_output=True, check=True)
    assert opened.stdout == data


def test_missing_papers(vault: Vault) -> None:
    paper = new_paper_id()
    assert not vault.exists("acme", paper)
    for use in (lambda: vault.open("acme", paper, identities=[IDENTITY]), lambda: vault.header("acme", paper)):
        with pytest.raises(VaultGone):
            use()
    vault.remove("acme", paper)
    assert list(vault.papers()) == []
    assert vault.sweep() == 0


def test_removed_papers(vault: Vault) -> None:
    paper = new_paper_id()
    keep(vault, paper, b"x")
    assert vault.exists("acme", paper)
    assert list(vault.papers()) == [("acme", paper, vault.path("acme", paper))]
    vault.remove("acme", paper)
    assert not vault.exists("acme", paper)


def test_the_wrong_identity(vault: Vault) -> None:
    paper = new_paper_id()
    keep(vault, paper, b"x")
    with pytest.raises(NoMatchError):
        vault.open("acme", paper, identities=[Identity.generate()])
    with pytest.raises(UsageError):
        vault.open("acme", paper)


def test_abandoned_papers_leave_nothing(vault: Vault) -> None:
    writer = vault.writer("acme", new_paper_id(), IDENTITY.recipient)
    writer.write(bytes(500_000))
    assert list(vault.papers()) == []
    assert len(files(vault)) == 1
    writer.abandon()
    writer.abandon()
    assert files(vault) == []
    with pytest.raises(RuntimeError), vault.writer("acme", new_paper_id(), IDENTITY.recipient) as second:
        second.write(b"x")
        raise RuntimeError
    assert files(vault) == []


def test_sealed_again_after_a_crash(vault: Vault) -> None:
    paper = new_paper_id()
    first, second = keep(vault, paper, b"x"), keep(vault, paper, b"x")
    assert first.sealed_sha256 != second.sealed_sha256
    assert len(files(vault)) == 1
    with vault.open("acme", paper, identities=[IDENTITY]) as reader:
        assert reader.read() == b"x"


@pytest.mark.parametrize(("client", "paper"), [("..", "a" * 32), ("acme", "../x"), ("a/b", "a" * 32), ("", "a" * 32), ("acme", "")])
def test_names_cannot_lead_elsewhere(vault: Vault, client: str, paper: str) -> None:
    with pytest.raises(UsageError):
        vault.path(client, paper)


def test_what_a_killed_writer_left_is_swept(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; from pathlib import Path; from gateway.age import Identity; from gateway.store import Vault, new_paper_id\n"
        "writer = Vault(Path(sys.argv[1])).writer('acme', new_paper_id(), Identity.generate().recipient)\n"
        "writer.write(bytes(2_000_000)); print('writing', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(vault.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"writing\n"
    kept = new_paper_id()
    keep(vault, kept, b"x")
    assert vault.sweep() == 0
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 3600)
    assert vault.sweep() == 0  # its writer lives
    child.kill()
    child.communicate()
    assert len(files(vault)) == 2
    assert vault.sweep() == 1
    assert files(vault) == [vault.path("acme", kept)]


def test_strange_things_in_the_vault_are_no_papers(vault: Vault) -> None:
    paper = new_paper_id()
    keep(vault, paper, b"x")
    shard = vault.path("acme", paper).parent
    (shard / "notes.txt").write_text("x")
    (shard / f"{new_paper_id()[:-2]}{'00' if paper[-2:] != '00' else '01'}.age").write_text("in the wrong shard")
    (vault.root / "file").write_text("x")
    (vault.root / "loop").symlink_to(vault.root)
    assert [found for _, found, _ in vault.papers()] == [paper]


def test_a_commit_is_durable_before_it_returns(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: taken.append(str(Path(f"/proc/self/fd/{descriptor}").readlink())) or fsync(descriptor))
    monkeypatch.setattr(os, "rename", lambda one, two: taken.append("rename") or rename(one, two))
    paper = new_paper_id()
    keep(vault, paper, b"x")
    shard = str(vault.path("acme", paper).parent)
    assert taken[-3].startswith(shard + "/.tmp-")
    assert taken[-2:] == ["rename", shard]
    assert str(vault.root / "acme") in taken  # the new shard's own entry


def test_what_it_remembers_of_its_folders_is_bounded(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vaults, "MOST_SHARDS", 4)
    papers = [f"{number:032x}" for number in range(20)]
    for paper in papers:
        keep(vault, paper, b"x")
    assert [paper for _, paper, _ in vault.papers()] == papers and len(vault._shards) <= 4
