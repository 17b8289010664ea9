"""Every setting, typed and frozen, with its default, unit and meaning.

The reference page and the example file are generated from this module. Units are in the names (`_seconds`, `_bytes`); relative paths are
relative to the data folder.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from config.checks import ArchiveSettings, ChecksSettings, ScanSettings
from config.section import Section as _Section
from config.timing import Window, check_schedule, parse_window
from config.vigilance import IncidentSettings, WatchSettings

Port = Annotated[int, Field(ge=0, le=65535)]
AlgorithmPolicy = Literal["modern", "strict", "nist"]
EMBEDDED = "embedded"


class GatewaySettings(_Section):
    """The SFTP server."""

    host: str = Field("0.0.0.0", description="Address to listen on.")
    port: Port = Field(2022, description="TCP port; 0 takes a free one (written to the ready file).")
    workers: int = Field(1, ge=1, le=64, description="Processes that share the port. One for each core of a busy machine is enough.")
    settle_seconds: float = Field(
        0.2,
        ge=0,
        le=3600,
        description="How long a cleanly closed paper waits before it lands: time for a client to reopen or rename it (scp, WinSCP and rclone do).",
    )
    unfinished_name_seconds: float = Field(
        5.0, ge=0, le=86400, description="The same wait for names that end in .filepart, .part, .partial or .tmp: a rename is to be expected."
    )
    partial_days: float = Field(7.0, gt=0, le=3650, description="Days after which an upload that was broken off is removed.")
    max_connections: int = Field(
        2000, ge=1, le=100_000, description="Connections at once, over all addresses. Each needs four open files of the process that has it."
    )
    max_unauthenticated: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Connections at once that have not logged in. Beyond it the oldest one of the most crowded address gives way to a new one.",
    )
    max_unauthenticated_per_address: int = Field(
        20, ge=1, le=10_000, description="The same for one address (of IPv6, a /64), so that a single stranger cannot take all places."
    )
    max_sessions_per_person: int = Field(32, ge=1, le=10_000, description="SFTP sessions, and connections, at once for one person.")
    max_handles: int = Field(256, ge=1, le=10_000, description="Open files and folders at once in one session.")
    max_names_in_folder: int = Field(
        100_000, ge=1, le=10_000_000, description="Papers and folders that one folder of a client may hold: whoever looks at it reads all of them."
    )
    max_auth_attempts: int = Field(6, ge=1, le=100, description="Keys a client may try on one connection.")
    login_seconds: float = Field(30.0, gt=0, le=600, description="Time a connection has to log in.")
    idle_seconds: float = Field(900.0, gt=0, le=86400, description="Time without a request after which a session is closed.")
    stop_seconds: float = Field(
        10.0, ge=0, le=3600, description="Time that running transfers get when the server is asked to stop; asked twice, it stops at once."
    )
    reserve_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="Free bytes on the disk of the data folder below which uploads are refused with 'no space'."
    )
    public_host: str = Field("", max_length=253, description="Name by which clients reach the server: for welcome sheets.")
    public_port: Port = Field(0, description="Port by which they do, where it is not `port`; 0: the same.")
    algorithms: AlgorithmPolicy = Field(
        "modern", description="Which algorithms of SSH are offered: for every client in use, for those of today alone, or NIST curves and AES."
    )
    ban_after: float = Field(
        20.0, ge=1, le=100_000, description="Failed attempts to log in of one address (of IPv6, a /64) within the window that lead to a ban."
    )
    ban_window_seconds: float = Field(600.0, gt=0, le=86400 * 7, description="The window in which they are counted.")
    ban_seconds: float = Field(60.0, gt=0, le=86400 * 30, description="How long a first ban lasts; each further one lasts twice as long.")
    longest_ban_seconds: float = Field(86400.0, gt=0, le=86400 * 365, description="The longest that a ban lasts.")
    trusted_networks: tuple[str, ...] = Field(
        ("127.0.0.0/8", "::1/128"), description="Networks that are never banned: this machine, your office, your monitoring."
    )
    require_client: tuple[str, ...] = Field(
        (),
        description="Combinations of publickey, password and totp, as in 'publickey+totp', one of which people of clients show; empty: any factor.",
    )
    require_staff: tuple[str, ...] = Field((), description="The same for the staff of the firm.")
    require_auditor: tuple[str, ...] = Field((), description="The same for auditors.")
    fast_path: bool = Field(
        True, description="Handle data under AES-GCM on a short road of our own; false leaves every packet to asyncssh, which is slower."
    )
    read_only: bool = Field(False, description="Let nobody change anything over SFTP: while a restore is looked at, and in rehearsals.")
    notice: str = Field("", max_length=8192, description="Banner that is shown before login.")
    notice_version: str = Field(
        "", max_length=64, description="Version of the banner, recorded with each login; empty: a hash of its text stands for it."
    )

    @field_validator("trusted_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            ip_network(text)
        return value

    @field_validator("require_client", "require_staff", "require_auditor")
    @classmethod
    def _combinations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parts = text.split("+")
            if parts == ["totp"] or len(set(parts)) != len(parts) or not set(parts) <= {"publickey", "password", "totp"}:
                raise ValueError("must be combinations such as 'publickey' or 'publickey+totp'; totp does not stand alone")
        return value


class IngestSettings(_Section):
    """The pipeline from a landed paper to its receipt."""

    sweep_seconds: float = Field(20.0, gt=0, le=3600, description="How often the spool is searched for papers whose event was missed.")
    batch: int = Field(128, ge=1, le=1000, description="Papers that share one commit of the catalog at the most.")
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes of ingest that 'nightsafe up' starts, each paper being handled by one. More than one helps where papers are large "
        "or checked for long, and there are cores for them.",
    )


class RetentionSettings(_Section):
    """How long papers are kept, by class. Nothing expires unless it is named here. `other` stands for every class that is not named, and for none."""

    days: dict[str, int] = Field(
        {},
        description="Days after receipt that papers of a class are kept: { tax = 3650, other = 365 }. A class without days is kept for ever.",
    )
    keep_versions: dict[str, int] = Field(
        {},
        description="Newest versions of a name that stay however old they are, by class: { other = 1 }. Without it all expire alike.",
    )
    every_hours: float = Field(24.0, ge=0, le=24 * 366, description="How often ingest lets papers expire; 0: only 'nightsafe retention run' does.")

    @field_validator("days", "keep_versions")
    @classmethod
    def _at_least_one(cls, value: dict[str, int]) -> dict[str, int]:
        for name, count in value.items():
            if not 1 <= count <= 36_600:
                raise ValueError(f"{name}: must be from 1 to 36600")
        return value


class KeysSettings(_Section):
    """Where the master secret comes from, and how many keys are handed out."""

    master_source: Literal["file", "command", "kms"] = Field(
        "file", description="Where the master comes from. $CREDENTIALS_DIRECTORY/master, which a service manager gives, goes before all of them."
    )
    master_file: Path = Field(Path("../master.key"), description="`file`: the master identity itself; mode 0600, outside the data folder.")
    master_command: tuple[str, ...] = Field((), description="`command`: a program that prints the master identity, and its arguments; no shell.")
    master_command_seconds: float = Field(30.0, gt=0, le=600, description="`command`: time it may take.")
    kms_file: Path = Field(Path("../master.kms"), description="`kms`: the master as AWS KMS encrypted it; mode 0600, outside the data folder.")
    kms_key: str = Field("", max_length=2048, description="`kms`: the key in KMS, by ARN, id or alias.")
    kms_region: str = Field("us-east-1", min_length=1, description="`kms`: its region.")
    kms_endpoint: str = Field("", pattern=r"^(https?://.+)?$", description="`kms`: URL of another endpoint than AWS's own.")
    max_age_days: int = Field(730, ge=1, le=36_600, description="Age from which `status` and `doctor` ask for a key to be renewed.")
    grants_per_minute: int = Field(
        6000, ge=1, le=1_000_000, description="Papers' keys that keyd opens for one person in a minute; beyond that it refuses for a while."
    )


class S3Settings(_Section):
    """The bucket. `embedded` runs a small S3 server on this machine: good for a look, never offsite, never green."""

    endpoint: str = Field(EMBEDDED, description="URL of an S3-compatible service, or `embedded`.")
    bucket: str = Field("nightsafe", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="Name of the bucket.")
    prefix: str = Field("", pattern=r"^[A-Za-z0-9._/-]*$", description="Folder in the bucket that holds both repositories; may be empty.")
    region: str = Field("us-east-1", min_length=1, description="Region of the bucket.")
    credentials_file: Path | None = Field(
        None,
        description="TOML file (0600) with tables [writer], [reader] and [pruner], each with access_key and secret_key. Needed unless embedded.",
    )
    folder: Path = Field(Path("../offsite"), description="Where the embedded server keeps its data; outside the data folder.")
    port: Port = Field(0, description="Port of the embedded server; 0 takes a free one.")

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if value != EMBEDDED and not value.startswith(("http://", "https://")):
            raise ValueError("must be 'embedded' or a URL that starts with https:// (or http:// on a trusted network)")
        return value.rstrip("/")

    @property
    def is_embedded(self) -> bool:
        return self.endpoint == EMBEDDED


class BackupSettings(_Section):
    """Backups by restic."""

    schedule: str = Field(
        "15 * * * *", description="When: a cron expression (minute hour day month weekday), or an interval such as 'every 6 hours'."
    )
    timezone: str = Field("UTC", description="Time zone of all schedules and of `limit_upload`, for example Asia/Shanghai.")
    started_by: Literal["scheduler", "timers"] = Field(
        "scheduler", description="What starts backups, drills, checks and forgetting: the role `scheduler`, or timers of the service manager."
    )
    host: str = Field("nightsafe", pattern=r"^[A-Za-z0-9._-]+$", description="Host name in snapshots; pinned, so that retention holds over a move.")
    restic: str = Field("restic", description="The restic program, 0.14 or newer.")
    timeout_seconds: float = Field(6 * 3600.0, gt=0, description="Time after which a backup is stopped and counts as failed.")
    stall_seconds: float = Field(300.0, gt=0, description="Time restic may take to find that the bucket cannot be reached.")
    max_age_hours: float = Field(26.0, gt=0, description="Age at which the newest backup counts as stale.")
    jitter_seconds: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="Scheduled work begins less than this later than its schedule says: how much later is drawn once for each installation and job.",
    )
    retry_minutes: float = Field(
        30.0, ge=0, le=1440, description="How long scheduled work is tried again after an outage (1, 2, 4 … 15 minutes apart). 0: not at all."
    )
    limit_upload: tuple[str, ...] = Field(
        (),
        description="Windows of the week in which less may be sent: ['Mon-Fri 08:00-18:00 = 2 MiB/s']. What holds when restic starts, holds on.",
    )
    allowed_regions: tuple[str, ...] = Field(
        (), description="Regions in which buckets may lie, asked of the bucket itself; one elsewhere is refused before the first byte. Empty: any."
    )

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("is not a known time zone; write it as in 'Europe/Zurich'") from error
        return value

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str) -> str:
        return check_schedule(value)

    @field_validator("limit_upload")
    @classmethod
    def _windows(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_window(text)
        return value

    @property
    def windows(self) -> tuple[Window, ...]:
        """`limit_upload`, read."""
        return tuple(parse_window(text) for text in self.limit_upload)


class CopySettings(_Section):
    """Another place for backups, with repositories and credentials of its own: the 2 and the 1 of 3-2-1. NAME is yours to choose."""

    url: str = Field(
        "",
        description="`s3:https://HOST/BUCKET/PREFIX`, `rest:https://HOST/PATH` (rest-server, `rclone serve restic`), or the path of a folder.",
    )
    region: str = Field("us-east-1", min_length=1, description="Region of the bucket, for s3.")
    credentials_file: Path | None = Field(
        None,
        description="TOML file (0600) with tables [writer], [reader] and [pruner]: access_key and secret_key for s3, user and password for rest.",
    )
    offsite: bool | None = Field(
        None, description="Whether it is on another site. Taken from the url when not set; a folder is not, until you say so."
    )
    schedule: str = Field("30 1 * * *", description="Schedule of the copy.")
    max_age_hours: float = Field(50.0, gt=0, description="Age at which the newest copy counts as stale.")
    drill_schedule: str = Field("15 4 * * sun", description="Schedule of the sampled drill of this copy; empty: only when a person runs one.")
    drill_max_age_hours: float = Field(200.0, gt=0, description="Age at which its last passed drill counts as stale, where it has a schedule.")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        scheme, _, rest = value.partition(":")
        if scheme in ("s3", "rest"):
            if not rest.startswith(("http://", "https://")):
                raise ValueError(f"must go on with a URL: {scheme}:https://…")
            if "@" in urlsplit(rest).netloc:
                raise ValueError("must hold no password: name a credentials_file")
            if scheme == "s3" and not urlsplit(rest).path.strip("/"):
                raise ValueError("must name a bucket: s3:https://HOST/BUCKET/PREFIX")
        elif "://" in value or re.fullmatch(r"[a-z0-9]+:.*", value):
            raise ValueError("must be s3:https://…, rest:https://…, or the path of a folder")
        return value.rstrip("/")

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str) -> str:
        return check_schedule(value)

    @field_validator("drill_schedule")
    @classmethod
    def _drill_schedule(cls, value: str) -> str:
        return check_schedule(value) if value else value


class CheckSettings(_Section):
    """Reading the repositories' packs, a part at a time."""

    schedule: str = Field("15 5 * * *", description="Schedule of the check.")
    parts: int = Field(30, ge=1, le=256, description="Each check reads one of so many parts of all packs: a daily one reads all in so many days.")
    max_age_days: float = Field(60.0, gt=0, description="Every pack is to be read within so many days; status turns red when one may not have been.")

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str) -> str:
        return check_schedule(value)


class ForgetSettings(_Section):
    """Which snapshots are kept; the others are forgotten and pruned, unless something is odd. Days are counted back from the newest snapshot."""

    schedule: str = Field("15 6 * * sun", description="Schedule of forgetting.")
    keep_last: int = Field(10, ge=1, description="Newest snapshots that stay, whenever they were made.")
    keep_within_days: float = Field(14.0, ge=0, description="Every snapshot of so many days stays.")
    keep_daily: int = Field(60, ge=0, description="The newest snapshot of each of so many days.")
    keep_weekly: int = Field(26, ge=0, description="Of each of so many weeks.")
    keep_monthly: int = Field(36, ge=0, description="Of each of so many months.")
    keep_yearly: int = Field(12, ge=0, description="Of each of so many years.")
    most_papers_gone_percent: float = Field(
        20.0, gt=0, le=100, description="When more papers than this went from one backup to the next, nothing is forgotten until a person says so."
    )
    most_shrinkage_percent: float = Field(20.0, gt=0, le=100, description="The same for the bytes of a backup.")
    most_change_percent: float = Field(50.0, gt=0, description="The same for new bytes, of all bytes of the backup before.")
    changes_from_bytes: int = Field(1024**3, ge=0, description="Size of a backup from which much change is odd: small installations grow by leaps.")

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str) -> str:
        return check_schedule(value)


class DrillSettings(_Section):
    """Rehearsed restores."""

    schedule: str = Field("45 3 * * *", description="Schedule of the sampled drill.")
    sample: int = Field(300, ge=1, description="Papers that a sampled drill draws.")
    max_age_hours: float = Field(50.0, gt=0, description="Age at which the last passed drill counts as stale.")
    full_schedule: str = Field("0 2 1 * *", description="Schedule of the full drill; empty: only when a person runs it.")
    self_test: bool = Field(True, description="Whether each full drill first has to fail on a backup with known faults.")
    scratch: Path = Field(Path("../scratch"), description="Where restored ciphertext is put for a while; plaintext is never written.")
    objective_recovery_point_hours: float = Field(24.0, gt=0, description="Recovery point objective: at most this much time may be lost.")
    objective_recovery_time_hours: float = Field(4.0, gt=0, description="Recovery time objective: a restore may take this long.")

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, value: str) -> str:
        return check_schedule(value)

    @field_validator("full_schedule")
    @classmethod
    def _full_schedule(cls, value: str) -> str:
        return check_schedule(value) if value else value


class NotifySettings(_Section):
    """Who is told of which events. Addresses, which hold passwords, are in a file of their own."""

    events: dict[str, tuple[str, ...]] = Field(
        {}, description='Events by receiver, * stands for any part: { ops = ["*.failed", "paper.refused"], auditor = ["hold.*"] }.'
    )
    receivers_file: Path = Field(
        Path("../notify.toml"),
        description='TOML file (0600) with a table for each receiver, as in [ops] urls = ["mailtos://…"].',
    )
    every_seconds: float = Field(5.0, gt=0, le=3600, description="How often the audit log is read for new events.")
    most_per_hour: int = Field(12, ge=1, le=3600, description="Messages for one receiver in an hour; what comes on top is told together.")


class PingSettings(_Section):
    """Watchdogs in the manner of healthchecks.io, told when scheduled work begins, went well, or failed."""

    urls: dict[str, str] = Field(
        {},
        description='Addresses by job: { backup = "https://hc-ping.com/…", "copy:nas" = "…" }. Jobs: backup, copy:NAME, check, check:NAME, forget, '
        "forget:NAME, drill, drill:full, drill:NAME.",
    )
    seconds: float = Field(10.0, gt=0, le=60, description="Time a watchdog has to connect, and to answer. Nothing waits for it.")

    @field_validator("urls")
    @classmethod
    def _urls(cls, value: dict[str, str]) -> dict[str, str]:
        for job, url in value.items():
            if not re.fullmatch(r"backup|copy:[a-z0-9-]+|(drill|check|forget)(:[a-z0-9-]+)?", job):
                raise ValueError(f"'{job}' is no job: backup, copy:NAME, check, check:NAME, forget, forget:NAME, drill, drill:full, drill:NAME")
            if not re.fullmatch(r"https?://[!-~]{1,500}", url) or "?" in url or "#" in url:
                raise ValueError(f"{job}: must be a URL that starts with https:// (or http:// on a trusted network), without ? and #")
        return value


class MetricsSettings(_Section):
    """Numbers for a monitor, served by the scheduler on 127.0.0.1: /metrics for Prometheus, /healthz for a watchdog."""

    port: Port = Field(0, description="TCP port; 0: nothing is served.")


class WebSettings(_Section):
    """The page for ops: `nightsafe web`. Read-only. On loopback whoever has a login on this machine may look; elsewhere a token is needed."""

    host: str = Field("127.0.0.1", description="Address to listen on. Leave it on loopback and put a proxy with TLS before it.")
    port: Port = Field(8090, description="TCP port; 0 takes a free one (written to the role's state file).")
    token_file: Path | None = Field(None, description="File (0600) with a token of 32 characters or more that is asked for. Needed off loopback.")
    public_host: str = Field("", max_length=253, description="Name by which a proxy with TLS serves the page; other names are refused.")


class LogSettings(_Section):
    """What the roles print."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is printed.")
    json_lines: bool = Field(False, description="Print JSON lines even on a terminal.")


class Settings(_Section):
    """All of `nightsafe.toml`. `format` is the version of this file's form."""

    format: int = Field(1, ge=1, le=1, description="Version of the form of this file.")
    gateway: GatewaySettings = Field(default_factory=lambda: GatewaySettings())
    ingest: IngestSettings = Field(default_factory=lambda: IngestSettings())
    retention: RetentionSettings = Field(default_factory=lambda: RetentionSettings())
    checks: ChecksSettings = Field(default_factory=lambda: ChecksSettings())
    scan: ScanSettings = Field(default_factory=lambda: ScanSettings())
    archives: ArchiveSettings = Field(default_factory=lambda: ArchiveSettings())
    keys: KeysSettings = Field(default_factory=lambda: KeysSettings())
    s3: S3Settings = Field(default_factory=lambda: S3Settings())
    backup: BackupSettings = Field(default_factory=lambda: BackupSettings())
    copies: dict[str, CopySettings] = Field(default_factory=dict)
    check: CheckSettings = Field(default_factory=lambda: CheckSettings())
    forget: ForgetSettings = Field(default_factory=lambda: ForgetSettings())
    drill: DrillSettings = Field(default_factory=lambda: DrillSettings())
    notify: NotifySettings = Field(default_factory=lambda: NotifySettings())
    watch: WatchSettings = Field(default_factory=lambda: WatchSettings())
    incident: IncidentSettings = Field(default_factory=lambda: IncidentSettings())
    pings: PingSettings = Field(default_factory=lambda: PingSettings())
    metrics: MetricsSettings = Field(default_factory=lambda: MetricsSettings())
    web: WebSettings = Field(default_factory=lambda: WebSettings())
    log: LogSettings = Field(default_factory=lambda: LogSettings())

    @field_validator("copies")
    @classmethod
    def _copies(cls, value: dict[str, CopySettings]) -> dict[str, CopySettings]:
        for name, copy in value.items():
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name):
                raise ValueError(f"'{name}' is no name for a copy: small letters, digits and dashes")
            if name == "full":
                raise ValueError("'full' is no name for a copy: drill:full is the full drill of the first place")
            if not copy.url:
                raise ValueError(f"copies.{name} has no url")
        return value
