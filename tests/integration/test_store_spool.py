"""The spool's folders and files on a real file system: states, handles, locks, sizes, holes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.errors import UsageError
from gateway.age import NoMatchError
from gateway.store import SpoolBusy, SpoolDamaged, SpoolFull, SpoolGone, SpoolTooLarge, StoreFailed, new_paper_id
from gateway.store.format import BLOCK, HEADER_SIZE, MAX_SIZE, STRIDE
from gateway.store.slots import SlotStore
from tests.integration.store_parts import CLIENT, Place, arrival_of

NOW = datetime.now(UTC)
SIZES = [0, 1, 20_000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def pattern(size: int) -> bytes:
    return (b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1)))[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [32 * 1024, 10_000, 200_000])
def test_what_went_in_comes_out(place: Place, size: int, step: int) -> None:
    data = pattern(size)
    file = place.spool.create(new_paper_id(), CLIENT)
    for offset in range(0, size, step):
        file.write(offset, data[offset : offset + step])
    assert file.size == size
    assert file.read(0, size + 5) == data
    file.finish(arrival_of(file.paper))
    assert file.read(0, size) == data
    paper = place.land(file)
    with place.spool.open_landed(paper, identities=[place.identity]) as landed:
        assert landed.size == size
        assert landed.arrival == arrival_of(paper)
        assert b"".join(bytes(block) for block in landed.blocks()) == data
        landed.seek(-1, os.SEEK_END) if size else None
        assert landed.read() == data[-1:]
        assert landed.read(10) == b""


@pytest.mark.parametrize("size", [0, 1, 20_000, BLOCK - 1, BLOCK])
def test_a_deposit_is_what_writing_and_finishing_makes(place: Place, size: int) -> None:
    data, paper, other = pattern(size), new_paper_id(), new_paper_id()
    deposited = place.spool.deposit(paper, CLIENT, data, arrival_of(paper))
    written = place.spool.create(other, CLIENT)
    written.write(0, data)
    written.finish(arrival_of(other))
    assert (place.partial / paper).stat().st_size == (place.partial / other).stat().st_size
    assert deposited.finished and deposited.size == deposited.prefix == size and deposited.read(0, size + 1) == data
    with pytest.raises(SpoolBusy):
        deposited.write(0, b"x")
    deposited.continue_writing()
    deposited.write(size, b"more")
    deposited.finish(arrival_of(paper))
    place.land(deposited)
    with place.spool.open_landed(paper, identities=[place.identity]) as landed:
        assert landed.arrival == arrival_of(paper)
        assert landed.read() == data + b"more"
    written.close()


@pytest.mark.parametrize("step", ["write_at", "fsync"])
def test_nothing_is_left_of_a_deposit_that_failed(place: Place, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    before = len(os.listdir("/proc/self/fd"))
    paper = new_paper_id()
    with monkeypatch.context() as broken:
        broken.setattr(*(("gateway.store.spool.write_at", fail) if step == "write_at" else (os, "fsync", fail)))
        with pytest.raises(SpoolFull):
            place.spool.deposit(paper, CLIENT, b"x", arrival_of(paper))
    assert place.spool.papers() == [] and len(os.listdir("/proc/self/fd")) == before
    place.spool.deposit(paper, CLIENT, b"x", arrival_of(paper)).close()
    with pytest.raises(SpoolBusy):
        place.spool.deposit(paper, CLIENT, b"x", arrival_of(paper))


def test_landed_papers_read_at_any_offset(place: Place) -> None:
    data = pattern(5 * BLOCK + 100)
    paper = place.landed_paper(data)
    with place.spool.open_landed(paper, file_key=place.key(paper)) as landed:
        for offset, length in [(0, 10), (BLOCK - 1, 2), (BLOCK, BLOCK), (BLOCK // 2, 3 * BLOCK), (5 * BLOCK + 99, 50), (6 * BLOCK, 5)]:
            landed.seek(offset)
            assert landed.read(length) == data[offset : offset + length]
        with pytest.raises(ValueError, match="position"):
            landed.seek(-1)


def test_sequential_writes_seal_each_block_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed: list[int] = []
    seal = SlotStore._seal
    monkeypatch.setattr(SlotStore, "_seal", lambda store, item, out: sealed.append(item.block) or seal(store, item, out))
    file = place.spool.create(new_paper_id(), CLIENT)
    piece = bytes(32 * 1024)
    for number in range(21):
        file.write(number * len(piece), piece)
    place.land(file)
    assert sealed == list(range(11))


def test_sixty_four_outstanding_writes_seal_each_block_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed: list[int] = []
    seal = SlotStore._seal
    monkeypatch.setattr(SlotStore, "_seal", lambda store, item, out: sealed.append(item.block) or seal(store, item, out))
    data = pattern(256 * 32 * 1024)
    file = place.spool.create(new_paper_id(), CLIENT)
    for window in range(0, 256, 64):
        for number in [*range(window + 63, window, -2), *range(window, window + 64, 2)]:
            file.write(number * 32 * 1024, data[number * 32 * 1024 : (number + 1) * 32 * 1024])
    assert sorted(sealed) == list(range(128))
    assert place.read(place.land(file)) == data


def test_holes_read_as_zeros_and_take_no_space(place: Place) -> None:
    file = place.spool.create(new_paper_id(), CLIENT)
    far = 3 << 30
    file.write(far, b"end")
    file.write(5, b"start")
    assert file.prefix == 0
    file.write(0, b"01234")
    assert file.prefix == 10
    assert file.read(far - 3, 10) == b"\0\0\0end"
    paper = place.land(file)
    assert (place.landed / paper).stat().st_blocks * 512 < 1 << 20
    with place.spool.open_landed(paper, identities=[place.identity]) as landed:
        assert landed.size == far + 3
        assert landed.read(12) == b"01234start\0\0"
        landed.seek(far - BLOCK - 1)
        assert landed.read() == bytes(BLOCK + 1) + b"end"


def test_a_paper_that_is_one_hole(place: Place) -> None:
    file = place.spool.create(new_paper_id(), CLIENT)
    file.truncate(2 * BLOCK + 3)
    assert place.read(place.land(file)) == bytes(2 * BLOCK + 3)


def test_largest_size(place: Place) -> None:
    file = place.spool.create(new_paper_id(), CLIENT)
    with pytest.raises(SpoolTooLarge):
        file.write(MAX_SIZE - 1, b"xy")
    with pytest.raises(SpoolTooLarge):
        file.write(-1, b"x")
    with pytest.raises(SpoolTooLarge):
        file.truncate(MAX_SIZE + 1)
    file.truncate(MAX_SIZE)
    paper = place.land(file)
    with place.spool.open_landed(paper, identities=[place.identity]) as landed:
        landed.seek(-5, os.SEEK_END)
        assert landed.read() == bytes(5)


def test_truncated_away_is_gone(place: Place) -> None:
    file = place.new(pattern(3 * BLOCK))
    file.truncate(100)
    file.truncate(2 * BLOCK)
    assert file.read(0, 3 * BLOCK) == pattern(100) + bytes(2 * BLOCK - 100)
    assert file.prefix == 100
    assert place.read(place.land(file)) == pattern(100) + bytes(2 * BLOCK - 100)


def test_a_truncated_block_does_not_come_back_after_a_crash(place: Place) -> None:
    file = place.new(pattern(3 * BLOCK))
    file.sync()
    file.truncate(100)
    place.crash(file)
    assert place.spool.prefix_size(file.paper) == 100


def test_overwritten_bytes_do_not_come_back_after_a_crash(place: Place) -> None:
    file = place.new(pattern(3 * BLOCK + 50))
    file.sync()
    file.write(BLOCK + 10, b"new")
    place.crash(file)
    again = place.reopen(file.paper)
    assert again.size == 3 * BLOCK + 50
    assert again.read(BLOCK + 8, 7) == pattern(2 * BLOCK)[BLOCK + 8 : BLOCK + 10] + b"new" + pattern(2 * BLOCK)[BLOCK + 13 : BLOCK + 15]


def test_memory_is_bounded_for_any_pattern(place: Place) -> None:
    file = place.spool.create(new_paper_id(), CLIENT)
    for number in range(500):
        file.write((number * 37 % 500) * BLOCK + 11, b"x")
    assert place.spool._buffers._taken <= 41
    for number in range(500):
        file.read(number * BLOCK, 20)
    assert place.spool._buffers._taken <= 41
    file.close()
    assert place.spool._buffers._taken == 0


def test_without_memory_nothing_waits(place: Place) -> None:
    place.use_no_cache()
    file = place.new(pattern(100_000))
    file.write(50, b"abc")
    assert place.spool._buffers._taken == 0
    assert file.read(49, 5) == pattern(49 + 5)[49:50] + b"abc" + pattern(54)[53:]
    assert place.spool._buffers._taken == 0


def test_continue_after_finish(place: Place) -> None:
    file = place.new(pattern(1000))
    file.finish(arrival_of(file.paper))
    with pytest.raises(SpoolBusy):
        file.write(0, b"x")
    file.continue_writing()
    with pytest.raises(SpoolBusy):
        place.spool.land(file.paper)
    file.write(1000, b"more")
    assert not file.finished
    assert place.read(place.land(file)) == pattern(1000) + b"more"


@pytest.mark.parametrize("size", [0, 1000, BLOCK, BLOCK + 1000])
def test_continue_far_beyond_a_short_last_block(place: Place, size: int) -> None:
    file = place.new(pattern(size))
    file.finish(arrival_of(file.paper))
    file.continue_writing()
    file.write(4 * BLOCK, b"far")
    assert place.read(place.land(file)) == pattern(size).ljust(4 * BLOCK, b"\0") + b"far"


def test_a_finished_paper_stays_finished_until_it_is_changed(place: Place) -> None:
    file = place.new(b"acknowledged")
    file.finish(arrival_of(file.paper))
    file.continue_writing()
    place.crash(file)
    assert place.spool.finished_unlanded() == [file.paper]
    again = place.reopen(file.paper)
    assert again.finished
    assert again.size == 12
    place.crash(again)
    assert place.spool.finished_unlanded() == [file.paper]
    place.spool.land(file.paper)
    assert place.read(file.paper) == b"acknowledged"


def test_what_a_dead_writer_finished_is_made_durable_before_it_lands(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place.new(b"x")
    file.finish(arrival_of(file.paper))
    place.crash(file)
    taken: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: taken.append(Path(f"/proc/self/fd/{descriptor}").readlink().name) or fsync(descriptor))
    monkeypatch.setattr(os, "rename", lambda *names, **folders: taken.append("rename") or rename(*names, **folders))
    place.spool.land(file.paper)
    assert taken == [file.paper, "rename"], "the rename itself may be lost: the paper then lands at the next start"


def test_gaps_of_a_finished_paper_are_content_when_it_goes_on(place: Place) -> None:
    file = place.spool.create(new_paper_id(), CLIENT)
    file.write(BLOCK + 10, b"x")
    assert file.prefix == 0
    file.finish(arrival_of(file.paper))
    file.continue_writing()
    file.write(BLOCK + 11, b"y")
    assert file.prefix == file.size == BLOCK + 12


def test_reopened_and_changed_is_a_partial(place: Place) -> None:
    file = place.new(pattern(BLOCK + 20))
    file.finish(arrival_of(file.paper))
    file.close()
    again = place.reopen(file.paper)
    again.write(BLOCK + 20, b"!")
    place.crash(again)
    assert place.spool.finished_unlanded() == []
    assert place.spool.prefix_size(file.paper) == BLOCK + 20


def test_a_short_last_block_that_outlived_a_crash_is_written_whole(place: Place) -> None:
    file = place.new(pattern(1000))
    file.finish(arrival_of(file.paper))
    file.continue_writing()
    file.truncate(1000)  # no change, but the footer is gone
    place.crash(file)
    again = place.reopen(file.paper)
    again.write(4 * BLOCK, b"far")
    assert place.read(place.land(again)) == pattern(1000).ljust(4 * BLOCK, b"\0") + b"far"


def test_finishing_twice_keeps_the_first_facts(place: Place) -> None:
    file = place.new(b"x")
    file.finish(arrival_of(file.paper, "/inbox/first"))
    file.continue_writing()
    file.finish(arrival_of(file.paper, "/inbox/second"))
    place.spool.land(file.paper)
    with place.spool.open_landed(file.paper, identities=[place.identity]) as landed:
        assert landed.arrival.path == "/inbox/first"


def test_broken_off_and_resumed(place: Place) -> None:
    data = pattern(3 * BLOCK + 500)
    file = place.new(data[: 2 * BLOCK + 77])
    file.write(3 * BLOCK, b"beyond a gap")
    file.close()
    with pytest.raises(SpoolGone):
        file.write(0, b"x")
    assert place.spool.prefix_size(file.paper) == 2 * BLOCK + 77
    again = place.reopen(file.paper)
    assert (again.size, again.prefix, again.client) == (2 * BLOCK + 77, 2 * BLOCK + 77, CLIENT)
    assert again.read(0, again.size) == data[: again.size]
    again.write(again.size, data[again.size :])
    assert place.read(place.land(again)) == data


def test_states_and_names(place: Place) -> None:
    file = place.new(b"x")
    with pytest.raises(SpoolGone):
        place.spool.header(file.paper)  # nothing is on the disk before it must be
    file.sync()
    assert place.spool.header(file.paper)[0] == "partial"
    assert place.spool.describe(file.paper)[1].client == CLIENT
    with pytest.raises(SpoolBusy):
        place.spool.land(file.paper)
    with pytest.raises(SpoolGone):
        place.spool.open_landed(file.paper, identities=[place.identity])
    place.land(file)
    place.spool.land(file.paper)
    assert place.spool.header(file.paper)[0] == "landed"
    assert place.spool.landed_papers() == [file.paper]
    with pytest.raises(SpoolGone):
        place.spool.prefix_size(file.paper)
    place.spool.remove_landed(file.paper)
    place.spool.remove_landed(file.paper)
    with pytest.raises(SpoolGone):
        place.spool.land(file.paper)
    with pytest.raises(SpoolGone):
        place.spool.header(file.paper)


def test_landed_is_immutable_even_for_open_handles(place: Place) -> None:
    file = place.new(b"x")
    file.finish(arrival_of(file.paper))
    place.spool.land(file.paper)
    for change in (lambda: file.write(0, b"y"), lambda: file.truncate(0), file.continue_writing, file.discard):
        with pytest.raises(SpoolBusy):
            change()
    assert file.read(0, 5) == b"x"
    assert place.read(file.paper) == b"x"
    file.close()
    assert place.read(file.paper) == b"x"


def test_handles_share_one_file(place: Place) -> None:
    one = place.new(b"hello")
    assert place.spool.create(one.paper, CLIENT) is one
    assert place.spool.reopen(one.paper, b"unused key......") is one
    assert place.spool.opened(one.paper) is one
    assert one.handles == 4
    for _ in range(3):
        one.close()
    one.write(5, b" world")
    one.close()
    one.close()
    assert one.handles == 0
    assert place.spool.opened(one.paper) is None
    assert place.reopen(one.paper).read(0, 20) == b"hello world"


def test_a_partial_is_held_against_who_does_not_write_it(place: Place, tmp_path: Path) -> None:
    file = place.new(b"x")
    file.sync()
    other = Place(tmp_path, place.identity)  # the kernel does not care that this is the same process
    with pytest.raises(SpoolBusy):
        other.spool.create(file.paper, CLIENT)
    with pytest.raises(SpoolBusy):
        other.spool.land(file.paper)
    with pytest.raises(SpoolBusy):
        other.spool.remove_partial(file.paper)
    assert other.spool.stale(NOW + timedelta(days=1)) == []
    file.finish(arrival_of(file.paper))
    assert other.spool.finished_unlanded() == []
    file.close()
    assert other.spool.finished_unlanded() == [file.paper]
    other.spool.land(file.paper)
    assert place.spool.landed_papers() == [file.paper]


def test_a_lock_ends_with_its_process(place: Place, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gateway.age import Recipient; from gateway.store import Spool\n"
        "root = Path(sys.argv[1]); spool = Spool(root / 'partial', root / 'landed', Recipient.parse(sys.argv[2]))\n"
        "file = spool.create(sys.argv[3], 'acme'); file.write(0, b'x'); file.sync(); print('held', flush=True); sys.stdin.read()"
    )
    paper = new_paper_id()
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(place.identity.recipient), paper], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    assert place.spool.stale(NOW + timedelta(days=1)) == []
    child.kill()
    child.communicate()
    assert place.spool.stale(NOW + timedelta(days=1)) == [paper]
    assert place.spool.stale(NOW - timedelta(days=1)) == []
    place.spool.remove_partial(paper)
    place.spool.remove_partial(paper)
    assert place.spool.stale(NOW + timedelta(days=1)) == []


def test_a_partial_without_anything_is_taken_over(place: Place) -> None:
    file = place.new(b"never written")
    place.crash(file)
    assert (place.partial / file.paper).stat().st_size == 0
    assert place.spool.prefix_size(file.paper) == 0
    with pytest.raises(SpoolGone):
        place.spool.header(file.paper)
    with pytest.raises(SpoolGone):
        place.spool.reopen(file.paper, bytes(16))
    again = place.new(b"second", file.paper)
    assert place.read(place.land(again)) == b"second"
    full = place.new(b"x")
    full.close()
    with pytest.raises(SpoolBusy):
        place.spool.create(full.paper, CLIENT)


def test_discard(place: Place) -> None:
    file = place.new(b"x")
    second = place.spool.opened(file.paper)
    file.discard()
    assert list(place.partial.iterdir()) == []
    assert second is not None
    for use in (lambda: second.write(0, b"y"), lambda: second.read(0, 1), second.sync, lambda: second.finish(arrival_of(file.paper))):
        with pytest.raises(SpoolGone):
            use()
    file.close()
    second.close()
    assert place.spool.opened(file.paper) is None
    assert list(place.partial.iterdir()) == []


def test_removing_an_open_partial_discards_it(place: Place) -> None:
    file = place.new(b"x")
    place.spool.remove_partial(file.paper)
    with pytest.raises(SpoolGone):
        file.sync()
    file.close()
    assert list(place.partial.iterdir()) == []


def test_wrong_keys(place: Place, tmp_path: Path) -> None:
    file = place.new(b"x")
    file.close()
    with pytest.raises(SpoolDamaged):
        place.spool.reopen(file.paper, bytes(16))
    again = place.reopen(file.paper)  # the failed try has let the lock go
    paper = place.land(again)
    with pytest.raises(SpoolDamaged):
        place.spool.open_landed(paper, file_key=bytes(16))
    stranger = Place(tmp_path)
    with pytest.raises(NoMatchError):
        place.spool.open_landed(paper, identities=[stranger.identity])


@pytest.mark.parametrize("name", ["../landed/x", "x", "", "a" * 33])
def test_only_paper_ids_become_names(place: Place, name: str) -> None:
    for use in (
        lambda: place.spool.create(name, CLIENT),
        lambda: place.spool.header(name),
        lambda: place.spool.prefix_size(name),
        lambda: place.spool.remove_landed(name),
        lambda: place.spool.remove_partial(name),
        lambda: place.spool.land(name),
        lambda: place.spool.open_landed(name),
        lambda: place.spool.reopen(name, bytes(16)),
    ):
        with pytest.raises(UsageError):
            use()


def test_a_link_in_the_spool_is_not_followed(place: Place) -> None:
    paper = new_paper_id()
    (place.landed / paper).symlink_to("/etc/passwd")
    with pytest.raises(StoreFailed):
        place.spool.open_landed(paper, file_key=bytes(16))


def test_a_failed_fsync_is_never_forgotten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place.new(b"x")

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StoreFailed):
            file.finish(arrival_of(file.paper))
    with pytest.raises(StoreFailed):
        file.finish(arrival_of(file.paper))
    file.close()


def test_threads_on_one_paper(place: Place) -> None:
    size = 40 * BLOCK
    data = pattern(size)
    paper = new_paper_id()
    piece = 24_000

    def work(share: int) -> None:
        file = place.spool.create(paper, CLIENT)
        for offset in range(share * piece, size, 4 * piece):
            file.write(offset, data[offset : offset + piece])
        if share:
            file.close()

    threads = [threading.Thread(target=work, args=(share,)) for share in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = place.spool.opened(paper)
    assert file is not None
    file.close()
    assert place.read(place.land(file)) == data


def test_opening_from_many_threads_gives_one_file(place: Place) -> None:
    file = place.new(pattern(30 * BLOCK))
    file.close()
    key = place.key(file.paper)
    for _ in range(20):
        found: list[object] = []

        def work(found: list[object] = found) -> None:
            again = place.spool.reopen(file.paper, key)
            found.append(again)
            again.close()

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
    assert place.spool.opened(file.paper) is None


@pytest.mark.parametrize("deposit", [False, True])
def test_small_papers_need_few_system_calls(place: Place, tmp_path: Path, deposit: bool) -> None:
    make = (
        "paper = new_paper_id(); file = spool.deposit(paper, 'acme', bytes(20000), arrival_of(paper))\n"
        if deposit
        else "file = spool.create(new_paper_id(), 'acme'); file.write(0, bytes(20000)); file.finish(arrival_of(file.paper))\n"
    )
    code = (
        "import sys; from pathlib import Path; from gateway.age import Identity\n"
        "from gateway.store import Spool, new_paper_id\n"
        "from tests.integration.store_parts import arrival_of\n"
        "root = Path(sys.argv[1]); spool = Spool(root / 'partial', root / 'landed', Identity.generate().recipient)\n"
        "def one():\n"
        f"    {make}"
        "    spool.land(file.paper); file.close()\n"
        "one(); sys.stderr.flush(); open('/dev/null').close(); one(); open('/dev/null').close()"
    )
    log = tmp_path / "strace"
    subprocess.run(["strace", "-o", str(log), sys.executable, "-c", code, str(tmp_path)], check=True)
    calls = log.read_text().split('"/dev/null"')[-2].splitlines()[1:-1]
    names = [call.split("(")[0] for call in calls]
    names = names[next(place for place, call in enumerate(calls) if "O_CREAT" in call) :]
    io = [name for name in names if name not in {"getrandom", "brk", "mmap", "munmap", "futex", "madvise", "mprotect"}]
    opening = ["openat", "fcntl", "fcntl"]
    assert [name.rstrip("2") for name in io] == [*opening, "pwritev", "fsync", "fsync", "renameat", "close"]


def test_layout_is_as_documented(place: Place) -> None:
    file = place.new(pattern(2 * BLOCK))
    file.sync()
    assert (place.partial / file.paper).stat().st_size == HEADER_SIZE + 2 * STRIDE
