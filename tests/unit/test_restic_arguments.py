"""Command lines: no secret in them, nothing that could be taken for an option, patterns that match one name only."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from backup.restic import arguments as a
from tests.integration.ready_repositories import prepare_folder


def test_a_backup_pins_the_host_and_keeps_sources_behind_the_dashes() -> None:
    words = a.backup(["vault", "--exclude"], host="nightsafe", tags=["run:1", "audit:ff"], excludes=["/d/jails/*/.tmp"])
    assert words[: words.index("--")] == [
        "backup", "--json", "--host", "nightsafe", "--compression", "off", "--tag", "run:1", "--tag", "audit:ff", "--exclude", "/d/jails/*/.tmp",
    ]  # fmt: skip
    assert words[words.index("--") + 1 :] == ["vault", "--exclude"]


def test_a_tag_with_a_comma_would_be_two() -> None:
    with pytest.raises(ValueError):
        a.backup(["x"], host="h", tags=["a,b"])


def test_no_cache_means_none() -> None:
    assert a.common(a.Repository("s3:x"), "/dev/fd/3") == ["--repo", "s3:x", "--password-file", "/dev/fd/3", "--no-cache"]
    assert a.common(a.Repository("s3:x", Path("/c")), "/dev/fd/3")[-2:] == ["--cache-dir", "/c"]


@pytest.mark.parametrize("words", [a.cat_config(), a.snapshots(), a.restore("latest", Path("/t")), a.check(lock=False), a.list_locks()])
def test_reading_takes_no_lock(words: list[str]) -> None:
    assert "--no-lock" in words


@pytest.mark.parametrize("name", ["plain", "[ab]*?", "back\\slash", "a]b[", "*", "two\nlines [ab]*\\"])
def test_literal_patterns_match_their_own_name_alone(name: str, tmp_path: Path) -> None:
    pattern = a.literal(f"/vault/{name}")
    assert pattern.replace("\\", "") == f"/vault/{name}".replace("\\", "")
    for special in "*?[":
        assert f"\\{special}" in pattern or special not in name
    # restic itself is the judge
    source = tmp_path / "src" / "vault"
    source.mkdir(parents=True)
    for one in (name, "other", "aab", "b"):
        (source / one).write_text(one)
    environment = {
        "PATH": "/usr/local/bin:/usr/bin",
        "RESTIC_PASSWORD": "x",
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "HOME": str(tmp_path),
    }

    def restic(*words: str, cwd: Path = tmp_path) -> None:
        subprocess.run(["restic", "--no-cache", *words], env=environment, cwd=cwd, check=True, capture_output=True)

    prepare_folder(tmp_path / "repository", b"x")
    restic("backup", "vault", cwd=tmp_path / "src")
    restic(*a.restore("latest", tmp_path / "out", includes=[pattern]))
    assert [path.name for path in (tmp_path / "out" / "vault").iterdir()] == [name]


def test_a_limit_of_bandwidth_stands_before_the_sources() -> None:
    words = a.backup(["vault"], host="h", tags=[], limit_upload=2048)
    assert words[words.index("--limit-upload") + 1] == "2048"
    assert words[-2:] == ["--", "vault"]
    assert "--limit-upload" not in a.backup(["vault"], host="h", tags=[])
