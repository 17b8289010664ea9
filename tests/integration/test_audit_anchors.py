"""`audit verify` against what somebody else holds: cutting the log back to an older state leaves the chain whole, and is found."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.cli import run
from gateway.audit import AuditLog, Event
from gateway.audit.anchors import anchors_in, collect
from gateway.audit.checkpoint import sign_checkpoint
from gateway.audit.segments import segment_path
from gateway.audit.signatures import SigningKey
from gateway.keys.keyring import CHECKPOINT_SIGNING, Keyring
from gateway.keys.master import load_master
from gateway.notify.notices import Bundle, Notice, message
from nightsafe import cli
from tests.integration.conftest import make_installation

HASH, OTHER = "ab" * 32, "cd" * 32


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps({"audit_head": HASH, "sha256": OTHER}, indent=2), {HASH}),
        (message(Bundle((Notice(1, "backup.failed", "now", "run: 4", HASH),)))[1], {HASH}),
        (json.dumps({"message": f"x\n\naudit head: {HASH}"}), {HASH}),
        (json.dumps({"body": json.dumps({"audit_head": HASH})}), {HASH}),
        (f"nightsafe,run:3,audit:{HASH}", {HASH}),
        (f"{HASH}\r\n{OTHER}\n", {HASH, OTHER}),
        (f"sha256: {HASH}\n{HASH} a file\naudit_head: {'0' * 64}", set()),
        ("Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(f"told\naudit head: {HASH}\n".encode()).decode(), {HASH}),
        (f"Content-Transfer-Encoding: quoted-printable\n\naudit head: {HASH[:20]}=\n{HASH[20:]}\n", {HASH}),
    ],
    ids=["receipt", "notice", "webhook", "nested", "tag", "list", "none", "base64", "quoted-printable"],
)
def test_heads_are_found_in_whatever_they_were_kept_in(text: str, found: set[str]) -> None:
    assert anchors_in(text.encode()) == found


def test_files_that_name_none_are_refused_and_folders_are_searched(tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "deep"
    kept.mkdir(parents=True)
    (kept / "a.json").write_text(json.dumps({"audit_head": HASH}))
    (kept / "b.pdf").write_bytes(b"\xff\x00")
    (kept / "loop").symlink_to(kept)
    assert collect([], [tmp_path / "kept"]) == {HASH: str(kept / "a.json")}
    for files, folders in (([kept / "b.pdf"], []), ([tmp_path / "none"], []), ([], [tmp_path / "none"])):
        with pytest.raises(Exception, match=r"names no head|cannot be read|no file below"):
            collect(files, folders)


Scene = tuple[Path, Callable[..., tuple[int, Any]]]


@pytest.fixture
def scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Scene:
    """An installation whose log had two states: `before` is the older one, kept aside as a thief would; both have whole chains and checkpoints."""
    installation = make_installation(tmp_path)
    folder = installation.folder
    signer = SigningKey.parse(Keyring(folder).open_secret(CHECKPOINT_SIGNING, load_master(installation)))
    kept = tmp_path / "kept"
    kept.mkdir()
    with AuditLog(folder.audit, "ops") as log:
        log.append(Event.KIT_SHOWN)
        sign_checkpoint(folder.audit, signer, log)
        log.sync()
        shutil.copytree(folder.audit, tmp_path / "before")
        head = log.append(Event.FILES_EXPORTED, client="acme")
        (kept / "receipt.json").write_text(json.dumps({"audit_head": head}))
        (kept / "tag").write_text(f"audit:{sign_checkpoint(folder.audit, signer)}")
    assert segment_path(folder.audit, log.segment).stat().st_size > 0

    def verify(*words: str) -> tuple[int, Any]:
        code = run(cli, ["audit", "verify", *words, "--data", str(folder.root)])
        out, err = capsys.readouterr()
        return code, out + err

    return tmp_path, verify


def test_going_back_to_an_older_state_shows_against_what_others_hold(scene: Scene) -> None:
    root, verify = scene
    kept = root / "kept"
    code, text = verify("--anchors", str(kept), "--anchor", str(kept / "receipt.json"))
    assert code == 0 and "2 anchors from elsewhere" in text and "the chain holds" in text
    shutil.rmtree(root / "data" / "audit")
    shutil.copytree(root / "before", root / "data" / "audit")
    assert verify()[0] == 0, "the older state is a whole chain by itself"
    for words, where in ((("--anchor", kept / "receipt.json"), "receipt.json"), (("--anchor", kept / "tag"), "tag"), (("--anchors", kept), "tag")):
        code, text = verify(*map(str, words))
        assert code == 1 and where in text and "cut off" in text
    assert verify("--anchor", str(root / "master.key"))[0] == 2, "that is no anchor"
    assert verify("--from", "cellar")[0] == 2
