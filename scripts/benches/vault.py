"""Sealing and opening papers, beside the primitives, the age tool and pyrage."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyrage
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from benches.frame import Page, Table, Taken, folder, pin, rounds, run_quietly
from gateway.age import Identity, open_sealed, open_stream, seal
from gateway.ingest.parts import go_on
from gateway.ingest.passing import pass_over
from gateway.store import Arrival, Spool, Vault, new_paper_id

BLOCK = 64 * 1024
PIECE = 1024 * 1024  # as ingest reads
MIB = 1024 * 1024
CLIENT = "acme"
INTRO = (
    "Everything below is of one run, on a RAM disk, in rounds in which each has its turn; shown are medians. Rates are per second of one "
    "processor (user and system), so that other work on the machine does not count."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What this bench knows."""
    parser.add_argument("--mib", type=int, default=256, metavar="N", help="size of the paper (256)")
    parser.add_argument(
        "--clock", action="store_true", help="time ingest's pass on one core and two, by the clock (on a machine that does nothing else)"
    )
    parser.add_argument(
        "--large", action="store_true", help="show the end of a 10 GiB paper, not of one of 1 GiB (on the disk of the temporary files)"
    )


def run(arguments: argparse.Namespace) -> Page:
    """All tables."""
    pin(1)
    size = arguments.mib * MIB
    with folder() as place:
        papers = Papers(place, size)
        return Page(
            "vault",
            INTRO,
            [
                sealing_pass(papers, arguments.rounds, clock=arguments.clock),
                sequential_open(papers, arguments.rounds),
                last_byte(papers, arguments.rounds, 10 * 1024 if arguments.large else 1024),
                memory(papers),
            ],
        )


class Papers:
    """One paper of `size` bytes: landed in a spool, and sealed."""

    def __init__(self, place: Path, size: int) -> None:
        self.place = place
        self.size = size
        self.identity = Identity.generate()
        self.identity_file = place / "identity"
        self.identity_file.write_text(self.identity.encode() + "\n")
        self.spool = Spool(place / "partial", place / "landed", self.identity.recipient)
        self.vault = Vault(place / "vault")
        self.paper = new_paper_id()
        self.land()
        self.sealed = place / "paper.age"
        write_sealed(self.sealed, self.identity, size)

    def land(self) -> None:
        data = os.urandom(PIECE)
        now = datetime.now(UTC)
        file = self.spool.create(self.paper, CLIENT)
        for offset in range(0, self.size, PIECE):
            file.write(offset, data)
        file.finish(Arrival(self.paper, CLIENT, "bench", "/inbox/paper", now, None, "s", "192.0.2.1", "bench"))
        self.spool.land(self.paper)
        file.close()

    def per_second(self, taken: Taken) -> float:
        """GB per second of one processor."""
        return self.size / max(taken.cpu, 1e-6) / 1e9


def write_sealed(path: Path, identity: Identity, size: int) -> None:
    data = os.urandom(PIECE)
    with path.open("wb") as file, seal(file, [identity.recipient]) as writer:
        for _ in range(size // PIECE):
            writer.write(data)


class Nowhere:
    """A sink."""

    def write(self, data: memoryview, /) -> int:
        return len(data)


# the sealing pass


def sealing_pass(papers: Papers, count: int, *, clock: bool) -> Table:
    """Spool decrypt → SHA-256 → age seal, beside what the three take by themselves on buffers in the cache."""
    aes, sha, chacha = "AES-256-GCM, opening", "SHA-256", "ChaCha20-Poly1305, sealing"
    whole, kept = "the pass", "the pass as ingest makes it"
    taken = rounds(count, {**primitives(papers.size, aes, sha, chacha), whole: lambda: one_pass(papers), kept: lambda: into_the_vault(papers)})
    rate = {name: papers.per_second(one) for name, one in taken.items()}
    ideal = 1 / sum(1 / rate[name] for name in (aes, sha, chacha))
    hashed_twice = 1 / (1 / ideal + 1 / rate[sha])
    table = Table("The sealing pass, on one core", ("", "GB/s", "of the ideal", "goal", "reached"))
    table.note = (
        "The ideal is what the primitives alone allow: 1 / (1/AES-GCM + 1/SHA-256 + 1/ChaCha20-Poly1305), on 64 KiB that stay in the processor's "
        "cache. Ingest also hashes the sealed file, for the catalog, and writes it; its ideal has SHA-256 twice and writes nothing. "
        "With a second core it opens and hashes beside the sealing."
    )
    for name in (aes, sha, chacha):
        table.add(name, f"{rate[name]:.2f}")
    table.add("ideal", f"{ideal:.2f}")
    table.add(f"{whole}: spool → SHA-256 → age", f"{rate[whole]:.2f}", f"{rate[whole] / ideal:.0%}", "70%", reached=rate[whole] >= 0.7 * ideal)
    table.add("ideal with the sealed file hashed", f"{hashed_twice:.2f}")
    table.add(f"{kept}, into a file", f"{rate[kept]:.2f}", f"{rate[kept] / hashed_twice:.0%}")
    if clock:
        for name, one in by_the_clock(papers, count).items():
            table.add(name, f"{papers.size / one.wall / 1e9:.2f}")
    return table


def by_the_clock(papers: Papers, count: int) -> dict[str, Taken]:
    """The pass as ingest makes it, on one core and on two."""
    one = rounds(count, {"the same by the clock, one core": lambda: into_the_vault(papers)})
    pin(2)
    two = rounds(count, {"the same by the clock, two cores": lambda: into_the_vault(papers)})
    pin(1)
    return one | two


def primitives(size: int, aes: str, sha: str, chacha: str) -> dict[str, Callable[[], object]]:
    plain, sealed = memoryview(bytearray(BLOCK)), memoryview(bytearray(BLOCK + 16))
    gcm, poly, nonce = AESGCM(bytes(32)), ChaCha20Poly1305(bytes(32)), bytes(12)
    ciphertext = gcm.encrypt(nonce, bytes(plain), None)

    def opening() -> None:
        for _ in range(size // BLOCK):
            gcm.decrypt_into(nonce, ciphertext, None, plain)

    def hashing() -> None:
        digest = hashlib.sha256()
        for _ in range(size // BLOCK):
            digest.update(plain)

    def sealing() -> None:
        for _ in range(size // BLOCK):
            poly.encrypt_into(nonce, plain, None, sealed)

    return {aes: opening, sha: hashing, chacha: sealing}


def one_pass(papers: Papers) -> str:
    digest = hashlib.sha256()
    piece = memoryview(bytearray(PIECE))
    with papers.spool.open_landed(papers.paper, identities=[papers.identity]) as landed, seal(Nowhere(), [papers.identity.recipient]) as writer:
        while count := landed.readinto(piece):
            digest.update(piece[:count])
            writer.write(piece[:count])
    return digest.hexdigest()


def into_the_vault(papers: Papers) -> None:
    with (
        papers.spool.open_landed(papers.paper, identities=[papers.identity]) as landed,
        papers.vault.writer(CLIENT, papers.paper, papers.identity.recipient) as writer,
    ):
        pass_over(landed, len, writer.write, go_on)
        writer.commit()
    papers.vault.remove(CLIENT, papers.paper)


# reading


def sequential_open(papers: Papers, count: int) -> Table:
    """A sealed paper, read from its beginning to its end, the plaintext thrown away."""
    sealed, key = str(papers.sealed), str(papers.identity_file)
    stranger = pyrage.x25519.Identity.from_str(papers.identity.encode())
    ours, front, tool, theirs = "`open_sealed`, 1 MiB at a time", "`open_stream`", "`python -m gateway.age decrypt`", "`age --decrypt`, the tool"
    rust = {
        "pyrage `decrypt_io`": lambda: decrypt_io(papers, stranger),
        "pyrage `decrypt`, all in memory": lambda: pyrage.decrypt(papers.sealed.read_bytes(), [stranger]),
        "pyrage `decrypt_file`": lambda: pyrage.decrypt_file(sealed, os.devnull, [stranger]),
    }
    taken = rounds(
        count,
        {
            ours: lambda: read_all(papers),
            front: lambda: read_front(papers),
            tool: lambda: run_quietly(sys.executable, "-m", "gateway.age", "decrypt", "-i", key, sealed),
            theirs: lambda: run_quietly("age", "--decrypt", "-i", key, sealed),
            **rust,
        },
    )
    rate = {name: papers.per_second(one) for name, one in taken.items()}
    table = Table("Opening from front to end", ("", "GB/s", "`open_sealed` is", "goal", "reached"))
    table.note = (
        "pyrage's `decrypt_file` never leaves Rust. Four times its speed would be more than ChaCha20-Poly1305 and one copy out of the page cache "
        "allow: both of them together are what `open_sealed` takes."
    )
    for name, one in rate.items():
        goal = 1 if name == theirs else 4 if name in rust else 0
        cells = (name, f"{one:.2f}", f"{rate[ours] / one:.1f} ×" if name != ours else "")
        if goal:
            table.add(*cells, f"{goal} ×", reached=rate[ours] >= goal * one)
        else:
            table.add(*cells)
    return table


def decrypt_io(papers: Papers, identity: pyrage.x25519.Identity) -> None:
    with papers.sealed.open("rb") as file, open(os.devnull, "wb") as sink:
        pyrage.decrypt_io(file, sink, [identity])


def read_all(papers: Papers) -> None:
    piece = memoryview(bytearray(PIECE))
    with open_sealed(papers.sealed.open("rb"), [papers.identity]) as source:
        while source.readinto(piece):
            pass


def read_front(papers: Papers) -> None:
    with papers.sealed.open("rb") as file:
        for _ in open_stream(file, [papers.identity]):
            pass


def last_byte(papers: Papers, count: int, large_mib: int) -> Table:
    """Open, go to the end, read one byte."""
    table = Table("One byte at the end of a paper", ("size of the paper", "milliseconds", "goal", "reached"))
    times = {}
    for mib in (10, large_mib):
        # the large one does not fit on every RAM disk; what is measured has been read before
        with folder(Path(os.environ.get("TMPDIR", "/var/tmp")) if mib > 2048 else papers.place) as place:  # noqa: S108
            path = place / "paper.age"
            write_sealed(path, papers.identity, mib * MIB)
            read_last(path, papers.identity)
            times[mib] = rounds(max(count, 5), {"": lambda path=path: [read_last(path, papers.identity) for _ in range(50)]})[""].wall / 50
    table.add("10 MiB", f"{times[10] * 1000:.2f}")
    table.add(f"{large_mib // 1024} GiB", f"{times[large_mib] * 1000:.2f}", "at most twice that of 10 MiB", reached=times[large_mib] <= 2 * times[10])
    return table


def read_last(path: Path, identity: Identity) -> bytes:
    with open_sealed(path.open("rb"), [identity]) as source:
        source.seek(-1, os.SEEK_END)
        return source.read(1)


# memory


def memory(papers: Papers) -> Table:
    """Peak memory of a process that does one thing, above one that does nothing."""
    table = Table("Peak memory", ("", "MiB above the bare interpreter", "goal", "reached"))
    bare = peak("pass")
    prepare = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import pathlib; from benches import vault as b; from gateway.age import Identity\n"
        "p = b.Papers.__new__(b.Papers); p.place = pathlib.Path(sys.argv[3]); p.paper = sys.argv[4]\n"
        "p.identity = Identity.parse((p.place / 'identity').read_text().strip()); p.sealed = p.place / 'paper.age'\n"
        "p.spool = b.Spool(p.place / 'partial', p.place / 'landed', p.identity.recipient); p.vault = b.Vault(p.place / 'vault')\n"
    )
    root = Path(__file__).resolve().parent.parent.parent
    arguments = (str(root), str(root / "scripts"), str(papers.place), papers.paper)
    for name, work in {
        "the sealing pass, into the vault": "b.into_the_vault(p)",
        "`open_sealed`, front to end": "b.read_all(p)",
        "`open_stream`": "b.read_front(p)",
        "one byte at the end": "b.read_last(p.sealed, p.identity)",
    }.items():
        above = peak(prepare + work, *arguments) - bare
        table.add(name, f"{above:.0f}", "64", reached=above < 64)
    return table


def peak(code: str, *arguments: str) -> float:
    """MiB at the most, of a process that runs `code`."""
    told = "\nprint(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    done = subprocess.run([sys.executable, "-c", code + told, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024
