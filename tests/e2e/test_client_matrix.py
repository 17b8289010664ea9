"""Every client does everything that it can: one matrix, whose result is the table in docs/reference/clients.md.

`pytest tests/e2e/test_client_matrix.py --full --write-clients` writes the table; otherwise it has to say what happens here.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog import Catalog
from tests.e2e.clients import DRIVERS, Driver
from tests.integration.sftp_rig import CLIENT, Server, running_server

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"
BEGIN, END = "<!-- The table is written by tests/e2e/test_client_matrix.py --write-clients -->\n", "<!-- end of the table -->\n"
QUOTA = 10 * 2**30
SMALL = 300_000
NAMES = ["a b", "...", "-rf", "né", "中文", "🙂", "[x]", "star*", "what?", "quo'te", 'quo"te', "back\\slash"]
NAMES += ["semi;colon", "$HOME", "%41", "#hash", "tab\there"]

Results = dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("matrix"), "settle_seconds = 0.2\nunfinished_name_seconds = 0.5\n") as running:
        with Catalog.open(running.folder.catalog) as catalog:
            catalog.edit_client(CLIENT, quota_bytes=QUOTA)
        yield running


@pytest.fixture(scope="module")
def drivers(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Driver]:
    made = {kind.name: kind(server, tmp_path_factory.mktemp("home")) for kind in DRIVERS}
    server.sftp(*(f'mkdir "{place(driver)}"' for driver in made.values()))
    return made


@pytest.fixture(scope="module")
def results() -> Results:
    return {}


def place(driver: Driver) -> str:
    return "/inbox/" + driver.name.replace(" ", "-")


def file_of(folder: Path, size: int, name: str = "source") -> Path:
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def round_trip(driver: Any, tmp: Path, tree: Path, name: str) -> None:
    """A tree there and back. Clients differ in whether the last folder's name is added on the way back."""
    driver.put_tree(tree, f"{place(driver)}/{name}")
    back = tmp / "back" / name
    back.parent.mkdir()
    driver.get_tree(f"{place(driver)}/{name}", back)
    assert files_below(back) == files_below(tree)


# what is checked


def uploads_and_downloads(driver: Any, tmp: Path) -> None:
    source = file_of(tmp, 3_000_000)
    driver.put(source, f"{place(driver)}/paper")
    driver.get(f"{place(driver)}/paper", tmp / "back")
    assert (tmp / "back").read_bytes() == source.read_bytes()


def overwrites_twice(driver: Any, tmp: Path) -> None:
    for size in (SMALL, 10, SMALL // 2):
        source = file_of(tmp, size)
        driver.put(source, f"{place(driver)}/again")
    driver.get(f"{place(driver)}/again", tmp / "back")
    assert (tmp / "back").read_bytes() == source.read_bytes()


def renames(driver: Any, tmp: Path) -> None:
    source = file_of(tmp, 1000)
    driver.put(source, f"{place(driver)}/old name")
    driver.rename(f"{place(driver)}/old name", f"{place(driver)}/new name")
    driver.get(f"{place(driver)}/new name", tmp / "back")
    assert (tmp / "back").read_bytes() == source.read_bytes()
    assert not there(driver, "old name").exists()


def deletes(driver: Any, tmp: Path) -> None:
    driver.put(file_of(tmp, 10), f"{place(driver)}/gone")
    driver.remove(f"{place(driver)}/gone")
    assert not there(driver, "gone").exists()


def resumes_an_upload(driver: Any, tmp: Path) -> None:
    whole = file_of(tmp, SMALL)
    part = tmp / "part"
    part.write_bytes(whole.read_bytes()[:100_000])
    driver.put(part, f"{place(driver)}/resumed")
    driver.resume_put(whole, f"{place(driver)}/resumed")
    driver.get(f"{place(driver)}/resumed", tmp / "back")
    assert (tmp / "back").read_bytes() == whole.read_bytes()


def resumes_a_download(driver: Any, tmp: Path) -> None:
    whole = file_of(tmp, SMALL)
    driver.put(whole, f"{place(driver)}/to fetch")
    (tmp / "back").write_bytes(whole.read_bytes()[:100_000])
    driver.resume_get(f"{place(driver)}/to fetch", tmp / "back")
    assert (tmp / "back").read_bytes() == whole.read_bytes()


def survives_a_broken_connection(driver: Driver, tmp: Path) -> None:
    """An upload is cut; nothing is published; the client goes on where it can, and else sends it again."""
    source = file_of(tmp, 4_000_000)
    limit(driver, 3_000_000)
    until(lambda: not any(driver.server.folder.spool_partial.iterdir()))
    try:
        driver.interrupted_put(source, f"{place(driver)}/cut", lambda: spooled(driver) > 300_000)
    finally:
        limit(driver, None)
    until(lambda: not held_open(driver))
    assert f"{place(driver)}/cut" not in {event["path"] for event in driver.server.events("paper.landed")}, "a part was published"
    go_on = getattr(driver, "resume_put", None) or driver.put  # type: ignore[attr-defined]
    go_on(source, f"{place(driver)}/cut")
    driver.get(f"{place(driver)}/cut", tmp / "back")  # type: ignore[attr-defined]
    assert (tmp / "back").read_bytes() == source.read_bytes()


def carries_deep_folders(driver: Any, tmp: Path) -> None:
    deep = tmp / "tree" / Path(*[f"level {number}" for number in range(12)])
    deep.mkdir(parents=True)
    (deep / "paper").write_bytes(b"deep")
    (tmp / "tree" / "empty file").write_bytes(b"")
    round_trip(driver, tmp, tmp / "tree", "deep")


def carries_an_empty_file(driver: Any, tmp: Path) -> None:
    driver.put(file_of(tmp, 0), f"{place(driver)}/empty")
    driver.get(f"{place(driver)}/empty", tmp / "back")
    assert (tmp / "back").read_bytes() == b""


def carries_odd_names(driver: Any, tmp: Path) -> None:
    (tmp / "tree").mkdir()
    for number, name in enumerate(name for name in NAMES if not set(name) & driver.cannot_carry):
        (tmp / "tree" / name).write_bytes(str(number).encode())
    round_trip(driver, tmp, tmp / "tree", "odd")


def keeps_times(driver: Any, tmp: Path) -> None:
    source = file_of(tmp, 1000)
    os.utime(source, (1_500_000_000, 1_400_000_000))
    driver.put_kept(source, f"{place(driver)}/dated")
    until(lambda: there(driver, "dated").stat().st_mtime == 1_400_000_000, 5)


def shows_the_room(driver: Any, tmp: Path) -> None:
    assert 0 < driver.space() <= QUOTA
    assert driver.space() > QUOTA // 2 or driver.space() > 10**8


def carries_2000_small_files(driver: Any, tmp: Path) -> None:
    for number in range(2000):
        folder = tmp / "tree" / f"{number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_bytes(os.urandom(number % 1000))
    round_trip(driver, tmp, tmp / "tree", "many")


Check = Callable[[Any, Path], None]
CHECKS: dict[str, tuple[Check, str]] = {  # column → what is done, and the verb that a client needs
    "up, down": (uploads_and_downloads, "put"),
    "overwrite twice": (overwrites_twice, "put"),
    "rename": (renames, "rename"),
    "delete": (deletes, "remove"),
    "resume up": (resumes_an_upload, "resume_put"),
    "resume down": (resumes_a_download, "resume_get"),
    "cut off": (survives_a_broken_connection, "interrupted_put"),
    "deep folders": (carries_deep_folders, "put_tree"),
    "0 bytes": (carries_an_empty_file, "put"),
    "odd names": (carries_odd_names, "put_tree"),
    "times": (keeps_times, "put_kept"),
    "room": (shows_the_room, "space"),
    "2,000 files": (carries_2000_small_files, "put_tree"),
}
LONG = {"2,000 files"}
LONG_CLIENTS = {"OpenSSH scp", "asyncssh", "psftp", "sshfs"}  # each cell costs a login, and what they do differently from sftp and paramiko is little
SLOW = {("curl", "2,000 files")}  # a login for each file: it would take minutes, and show nothing more


# helpers that look at the server


def there(driver: Driver, name: str) -> Path:
    return driver.server.folder.jail(CLIENT) / place(driver).lstrip("/") / name


def spooled(driver: Driver) -> int:
    return max((path.stat().st_size for path in driver.server.folder.spool_partial.iterdir()), default=0)


def held_open(driver: Driver) -> bool:
    opened = [event["session"] for event in driver.server.events("session.opened")]
    closed = {event["session"] for event in driver.server.events("session.closed")}
    return any(session not in closed for session in opened)


def limit(driver: Driver, speed: int | None) -> None:
    with Catalog.open(driver.server.folder.catalog) as catalog:
        catalog.edit_client(CLIENT, upload_bytes_per_second=speed)


def until(holds: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


# the matrix


def is_long(client: str, column: str) -> bool:
    """Whether a cell is left to the long tier."""
    return column in LONG or client in LONG_CLIENTS


CELLS = [
    pytest.param(
        kind.name,
        column,
        id=f"{kind.name}-{column}".replace(" ", "-"),
        marks=[pytest.mark.long] if is_long(kind.name, column) else [],
    )
    for column in CHECKS
    for kind in DRIVERS
]


@pytest.mark.parametrize(("client", "column"), CELLS)
def test_cell(client: str, column: str, drivers: dict[str, Driver], results: Results, tmp_path: Path) -> None:
    check, verb = CHECKS[column]
    driver = drivers[client]
    if not hasattr(driver, verb) or (client, column) in SLOW:
        results[client, column] = "–"
        return
    check(driver, tmp_path)
    results[client, column] = "yes ¹" if column == "odd names" and driver.cannot_carry else "yes"


def table_of(drivers: dict[str, Driver], results: Results) -> str:
    lines = [f"| client | {' | '.join(CHECKS)} |", "| --- |" + " --- |" * len(CHECKS)]
    for name, driver in drivers.items():
        lines.append(f"| {name} {driver.version()} | " + " | ".join(results.get((name, column), "?") for column in CHECKS) + " |")
    return "\n".join(lines) + "\n"


def test_the_page_says_what_happened(drivers: dict[str, Driver], results: Results, pytestconfig: pytest.Config) -> None:
    expected = sum(not is_long(kind.name, column) for kind in DRIVERS for column in CHECKS)
    assert len(results) >= expected, "some cell failed, or was not run: the table is not whole"
    text = PAGE.read_text("utf-8")
    head, rest = text.split(BEGIN)
    old, tail = rest.split(END)
    if pytestconfig.getoption("--write-clients"):
        assert len(results) == len(DRIVERS) * len(CHECKS), "run it with --full"
        PAGE.write_text(head + BEGIN + table_of(drivers, results) + END + tail, "utf-8")
        return
    told = rows(old)
    for (client, column), result in results.items():
        assert told[client][list(CHECKS).index(column)] == result, f"the page says otherwise of {client}, {column}: run with --full --write-clients"


def rows(table: str) -> dict[str, list[str]]:
    """Client → its cells, whatever version it was."""
    found = {}
    for line in table.splitlines()[2:]:
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = next(kind.name for kind in DRIVERS if re.match(re.escape(kind.name) + r"\b", first))
        found[name] = cells
    return found
