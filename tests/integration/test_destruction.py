"""Destroying a client, with real restic and S3: what goes, what stays, what is proven, and what the proof must not overlook."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup import bucket
from backup.destruction import run
from backup.destruction.run import Order, Outcome, destroy_client, retry_pending
from backup.repositories.access import access
from backup.restore.papers import restore_papers
from backup.status.overview import overview
from config.cli import run as run_command
from config.errors import UsageError
from config.roles import exclusive
from gateway.age import Identity, seal_bytes
from gateway.jail import Tree
from gateway.keys.secrets import role_secrets
from gateway.store import Arrival, Spool, new_paper_id
from nightsafe import cli
from tests.integration.conftest import S3Server, make_installation
from tests.integration.drill_house import DrillHouse

ORDER = Order("R. Keller", "contract ended", "ops:test")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[Callable[[str], DrillHouse]]:
    """Houses with two clients, three papers of acme, and two backups; each at a prefix of its own."""
    made: list[DrillHouse] = []

    def make(name: str) -> DrillHouse:
        root = tmp_path_factory.mktemp(name)
        house = DrillHouse(make_installation(root, s3.settings(root, f"destroy-{name}")))
        made.append(house)
        house.add_client("acme")
        house.add_client("zeta")
        house.add_paper("acme", "/inbox/a.pdf", b"first of acme")
        house.add_paper("acme", "/inbox/報告 <b>.pdf", b"x" * 70_000)
        house.add_paper("zeta", "/inbox/z.pdf", b"of zeta")
        house.save()
        house.keyring.rotate_client("acme")
        house.add_paper("acme", "/inbox/new.pdf", b"of the second generation")
        house.save()
        return house

    yield make
    for house in made:
        house.close()


def destroy(house: DrillHouse, name: str = "acme") -> Outcome:
    return destroy_client(house.installation, name, ORDER)


def verified(house: DrillHouse, certificate: Path) -> bool:
    command = ["ssh-keygen", "-Y", "verify", "-f", house.keyring.allowed_signers, "-I", "destruction", "-n", "destruction@nightsafe"]
    done = subprocess.run([*command, "-s", f"{certificate}.sig"], input=certificate.read_bytes(), capture_output=True, check=False)
    return done.returncode == 0


def test_from_the_order_to_the_certificate(ready: Callable[[str], DrillHouse], tmp_path: Path) -> None:
    house = ready("whole")
    papers = list(house.catalog.papers("acme"))
    forgotten = house.folder.evidence / "forgotten.bin"
    shutil.copy(house.folder.client_keys("acme") / "1.age", forgotten)
    failed = destroy(house)
    assert failed.proof is not None and not failed.proof.holds and failed.proof.opened_total == 2
    assert "the data folder: evidence/forgotten.bin" in failed.proof.copies[0]
    assert json.loads(failed.certificate.read_bytes())["state"] == "pending" and house.folder.jail("acme").exists()
    assert [line.colour for line in overview(house.installation) if line.name == "destruction"] == ["red"]
    forgotten.unlink()
    outcome = destroy(house)
    assert outcome.destruction.state == "done" and outcome.obstacle == "" and outcome.proof is not None
    assert (outcome.proof.papers, outcome.proof.opened, outcome.proof.copies, outcome.proof.no_ciphertext) == (3, [], [], 0)
    assert outcome.proof.identities >= 3, "the master, ingest's, and zeta's at the least"
    assert outcome.proof.snapshots == 1
    # what is gone, and what is not
    folder = house.folder
    assert not any(path.exists() for path in (folder.client_keys("acme"), folder.jail("acme"), folder.vault / "acme"))
    assert folder.client_keys("zeta").exists() and (folder.vault / "zeta").exists()
    assert [paper.id for paper in house.catalog.papers("acme")] == [paper.id for paper in papers], "the catalog remembers"
    # the certificate
    values = json.loads(outcome.certificate.read_bytes())
    assert verified(house, outcome.certificate)
    assert values["state"] == "done" and values["ordered_by"] == "R. Keller"
    assert [(one["path"], one["sha256"]) for one in values["papers"]] == [(paper.path, paper.sha256) for paper in papers]
    assert [key["generation"] for key in values["keys"]] and len(values["key_files"]) == 4, "two generations of two halves"
    assert [(one["repository"], one["state"]) for one in values["repositories"]] == [("keys", "clean")]
    assert "&lt;b&gt;" in outcome.certificate.with_suffix(".html").read_text(), "a client's name is no markup"
    changed = tmp_path / "changed.json"
    changed.write_bytes(outcome.certificate.read_bytes().replace(b'"done"', b'"nice"'))
    shutil.copy(f"{outcome.certificate}.sig", f"{changed}.sig")
    assert not verified(house, changed)
    # everybody says so
    with house.agent() as agent:
        with pytest.raises(UsageError, match="was destroyed"):
            restore_papers(house.installation, "acme", [], None, tmp_path / "back", agent)
        assert restore_papers(house.installation, "zeta", [], None, tmp_path / "zeta", agent).restored == 1
    for words in (["files", "get", "acme", "/inbox/a.pdf"], ["client", "resume", "acme"], ["hold", "set", "acme", "--reason", "x", "--by", "y"]):
        assert run_command(cli, [*words, "--data", str(folder.root)]) == 2
    # a drill does not take it for a loss, though the newest snapshot is older
    done = house.drill()
    assert done.state == "passed" and done.detail["of"] == 1, done.detail["cause"]


@pytest.mark.long
def test_destroyed_again_and_drilled_again_it_stays_so(ready: Callable[[str], DrillHouse]) -> None:
    house = ready("again")
    outcome = destroy(house)
    house.save()
    done = house.drill()
    assert done.state == "passed" and done.detail["of"] == 1, done.detail["cause"]
    again = destroy(house)
    assert again.destruction.state == "done" and again.certificate == outcome.certificate
    assert again.proof is not None and again.proof.papers == 3 and again.proof.no_ciphertext == 0, "out of an older snapshot"
    planted = house.folder.client_keys("acme")
    planted.mkdir()
    (planted / "1.age").write_bytes((house.folder.client_keys("zeta") / "1.age").read_bytes())
    house.save()
    assert "keys/clients/acme/1.age" in house.drill().detail["bad"][0]


@pytest.mark.long
def test_a_planted_copy_makes_the_proof_fail(ready: Callable[[str], DrillHouse]) -> None:
    house = ready("planted")
    key = (house.folder.client_keys("acme") / "1.age").read_bytes()
    copy = house.folder.evidence / "forgotten" / "old.bin"
    copy.parent.mkdir()
    copy.write_bytes(key)
    outcome = destroy(house)
    assert outcome.destruction.state == "pending" and outcome.proof is not None and not outcome.proof.holds
    assert "destruction.disproven" in house.events()
    assert "the data folder: evidence/forgotten/old.bin" in outcome.proof.copies[0] and outcome.proof.opened_total == 2
    assert house.vault_file(next(house.catalog.papers("acme"))).exists(), "nothing more goes before the proof"
    assert [line.colour for line in overview(house.installation) if line.name == "destruction"] == ["red"]
    assert json.loads(outcome.certificate.read_bytes())["state"] == "pending"
    # in the repository, under another client's name
    copy.unlink()
    planted = house.folder.client_keys("zeta") / "old.age"
    planted.write_bytes(key)
    house.save()
    planted.unlink()
    outcome = destroy(house)
    assert outcome.proof is None and "still holds 1 key file of" in outcome.obstacle
    keys = house.repository("keys")
    (snapshot,) = [one.id for one in keys.snapshots() if any("old.age" in path for path in keys.paths(one.id))]
    house.save()
    keys.forget_snapshots([snapshot])
    outcome = destroy(house)
    assert outcome.destruction.state == "done" and json.loads(outcome.certificate.read_bytes())["state"] == "done"
    assert int(outcome.certificate.stem) > 1
    # and when a copy turns up after the end
    copy.write_bytes(key)
    late = destroy(house)
    assert late.destruction.state == "pending" and late.proof is not None and late.proof.opened_total == 2


@pytest.mark.long
def test_a_hold_a_wrong_name_and_silence_destroy_nothing(ready: Callable[[str], DrillHouse]) -> None:
    house = ready("refused")
    held = house.catalog.set_hold("acme", path="/inbox/a.pdf", reason="audit", ordered_by="court")
    with pytest.raises(UsageError, match="legal hold"):
        destroy(house)
    house.catalog.release_hold(held.id, reason="over", released_by="court")
    data = ["--data", str(house.folder.root), "--by", "x", "--reason", "y"]
    assert run_command(cli, ["client", "destroy", "acme", *data]) == 2
    assert run_command(cli, ["client", "destroy", "acme", "--yes", "zeta", *data]) == 2
    assert run_command(cli, ["client", "destroy", "nobody", "--yes", "nobody", *data]) == 2
    assert run_command(cli, ["client", "destroy", "acme", "--yes", "acme", "--data", str(house.folder.root)]) == 2, "who, and why?"
    assert house.catalog.destruction("acme") is None and (house.folder.client_keys("acme") / "2.age").exists()
    # a backup that runs could carry the keys in again
    with exclusive(house.folder, "backup", "a backup runs"):
        outcome = destroy(house)
    assert outcome.destruction.state == "pending" and "a backup runs" in outcome.obstacle
    assert not house.folder.client_keys("acme").exists()
    assert [line.colour for line in overview(house.installation) if line.name == "destruction"] == ["yellow"]
    assert house.drill().state == "passed", "keys that are pending in the bucket are no fault"
    retry_pending(house.installation, role_secrets(house.installation, "scheduler"))
    assert house.catalog.destruction("acme").state == "done"  # type: ignore[union-attr]
    # the last copy of somebody else's key is not forgotten with it
    house.add_client("omega")
    house.save()
    shutil.rmtree(house.folder.client_keys("omega"))
    outcome = destroy(house, "zeta")
    assert "the last copy of keys/clients/omega" in outcome.obstacle


@pytest.fixture
def unsaved(tmp_path: Path) -> Iterator[DrillHouse]:
    """A house that never made a backup: there is no repository to be cleaned."""
    house = DrillHouse(make_installation(tmp_path))
    house.add_client("acme")
    house.add_client("zeta")
    for name in ("a", "b"):
        house.add_paper("acme", f"/inbox/{name}", name.encode())
    yield house
    house.close()


STEPS = ["remove_unsealed", "remove_client_keys", "_shred_everywhere", "prove", "remove_sealed", "certificate_values", "write_certificate"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_anywhere_and_run_again_it_ends(unsaved: DrillHouse, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(run, step, die)
        with pytest.raises(Killed):
            destroy(unsaved)
    assert unsaved.catalog.destruction("acme") is not None, "begun is begun"
    outcome = destroy(unsaved)
    assert outcome.destruction.state == "done" and outcome.proof is not None
    assert outcome.proof.papers == 2 and outcome.proof.no_ciphertext == (2 if step in STEPS[-2:] else 0), "without a backup nothing sealed is left"
    assert verified(unsaved, outcome.certificate)
    events = unsaved.events()
    assert {"client.keys_removed", "destruction.proven"} <= set(events)
    assert events.count("destruction.begun") == 1 and events.count("client.destroyed") == 1


def test_a_key_that_only_recovery_opens_is_found_by_its_hash(unsaved: DrillHouse) -> None:
    (deposits, _) = unsaved.keyring.add_deposit_client("beta", None)
    unsaved.catalog.add_client("beta", custody="deposit-only", recipient=str(deposits.recipient), generation=deposits.generation)
    Tree.create(unsaved.folder.jail("beta")).close()
    unsaved.add_paper("beta", "/inbox/a", b"for the recovery kit alone")
    key = unsaved.folder.client_keys("beta") / f"{deposits.generation}.recovery.age"
    copy = unsaved.folder.root / "copy-of-a-key"
    shutil.copy(key, copy)
    outcome = destroy(unsaved, "beta")
    assert outcome.proof is not None and outcome.proof.copies == ["the data folder: copy-of-a-key"] and outcome.proof.opened_total == 0
    copy.unlink()
    assert destroy(unsaved, "beta").destruction.state == "done"
    assert not unsaved.folder.client_keys("beta").exists() and (unsaved.folder.client_keys("acme") / "1.age").exists()


def test_a_copy_that_only_an_older_master_opens_is_found_when_that_is_brought(unsaved: DrillHouse, tmp_path: Path) -> None:
    old = Identity.generate()
    (own,) = unsaved.keyring.client_identities("acme", unsaved.master)
    (unsaved.folder.root / "from-before.age").write_bytes(seal_bytes(own.encode().encode(), [old.recipient]))
    file = tmp_path / "old-master"
    file.write_text(f"# an older master\n{old.encode()}\n")
    words = ["client", "destroy", "acme", "--data", str(unsaved.folder.root), "--yes", "acme", "--by", "x", "--reason", "y"]
    assert run_command(cli, [*words, "--identity", str(file)]) == 1
    destruction = unsaved.catalog.destruction("acme")
    assert destruction is not None and destruction.proof["copies"] == ["the data folder: from-before.age"] and destruction.state == "pending"


def test_what_arrives_late_and_unsealed_goes_too(unsaved: DrillHouse) -> None:
    with Spool(unsaved.folder.spool_partial, unsaved.folder.spool_landed, unsaved.keyring.ingest_recipient) as spool:
        for client in ("acme", "zeta"):
            for landed in (True, False):
                paper = new_paper_id()
                file = spool.create(paper, client)
                file.write(0, b"secret of the spool")
                file.finish(Arrival(paper, client, client, "/inbox/late", datetime.now(UTC), None, "s", "127.0.0.1", "test"))
                if landed:
                    spool.land(paper)
                file.close()
    assert destroy(unsaved).destruction.state == "done"
    left = [path for folder in (unsaved.folder.spool_partial, unsaved.folder.spool_landed) for path in folder.iterdir()]
    assert len(left) == 2, "zeta's alone"


@pytest.mark.long
def test_old_versions_in_the_bucket_go(ready: Callable[[str], DrillHouse]) -> None:
    house = ready("versions")
    there = access(house.installation, "pruner")
    house.keep_versions()
    house.save()
    house.keyring.rotate_client("acme")
    house.save()
    outcome = destroy(house)
    assert outcome.destruction.state == "done"
    assert bucket.old_versions(there, there.folder("keys")) == []
    assert [line for line in house.events() if line == "repository.shredded"]
