"""What a paper is by its content, and whether its ending agrees. Pure; run by a worker process, since the bytes are a stranger's.

puremagic knows thousands of signatures, some of them two bytes long, so it is asked for names only. Whether an ending lies is decided by the
kinds in SURE alone, whose signatures cannot be there by chance: an alarm that is often false is switched off.
"""

from __future__ import annotations

import puremagic

HEAD_BYTES = 64 * 1024
PDF_WITHIN = 1024  # readers accept a PDF that begins so late

ZIP_ENDINGS = frozenset(
    [
        "zip",
        "docx",
        "docm",
        "dotx",
        "xlsx",
        "xlsm",
        "xlsb",
        "xltx",
        "pptx",
        "pptm",
        "ppsx",
        "odt",
        "ods",
        "odp",
        "odg",
        "epub",
        "jar",
        "apk",
        "vsdx",
        "xps",
    ]
)
OLE_ENDINGS = frozenset(["doc", "dot", "xls", "xlt", "ppt", "pps", "msg", "msi", "vsd", "pub", "mpp", "thumbs", "db"])
PROGRAM_ENDINGS = frozenset(["exe", "dll", "sys", "scr", "com", "cpl", "ocx", "drv", "efi", "so", "o", "bin", "elf", "ko", "appimage", "mui"])
SURE: tuple[tuple[str, bytes, frozenset[str]], ...] = (
    ("pdf", b"%PDF-", frozenset({"pdf", "ai", "fdf"})),
    ("png", b"\x89PNG\r\n\x1a\n", frozenset({"png", "apng"})),
    ("jpeg", b"\xff\xd8\xff", frozenset({"jpg", "jpeg", "jpe", "jfif"})),
    ("gif", b"GIF8", frozenset({"gif"})),
    ("tiff", b"II*\0", frozenset({"tif", "tiff", "dng", "cr2", "nef"})),
    ("tiff", b"MM\0*", frozenset({"tif", "tiff", "dng", "nef"})),
    ("zip", b"PK\x03\x04", ZIP_ENDINGS),
    ("zip", b"PK\x05\x06", ZIP_ENDINGS),
    ("ole", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE_ENDINGS),
    ("7z", b"7z\xbc\xaf\x27\x1c", frozenset({"7z"})),
    ("rar", b"Rar!\x1a\x07", frozenset({"rar"})),
    ("gzip", b"\x1f\x8b\x08", frozenset({"gz", "tgz", "svgz"})),
    ("rtf", b"{\\rtf", frozenset({"rtf", "doc"})),
    ("program", b"MZ", PROGRAM_ENDINGS),
    ("program", b"\x7fELF", PROGRAM_ENDINGS),
)
HAVE_SIGNATURE = frozenset[str]().union(*(endings for kind, _, endings in SURE if kind not in ("program", "ole"))) | {"xls", "ppt", "msg"}
PLAIN_TEXT = frozenset(["txt", "csv", "tsv", "md", "log", "json", "xml", "html", "htm", "sql", "ini", "yaml", "yml", "eml", "ics", "vcf"])


def ending_of(name: str) -> str:
    """`a.tar.GZ` → `gz`; empty when there is none."""
    stem, dot, ending = name.rpartition(".")
    return ending.lower() if dot and stem else ""


def kind_of(head: bytes, name: str = "") -> str:
    """The type in a word: `pdf`, `jpeg`, `docx`… For what is a zip inside, the ending tells which; `text`, `empty`, `unknown` for the rest."""
    if not head:
        return "empty"
    kind = _sure(head, ending_of(name))
    if kind == "zip" and ending_of(name) in ZIP_ENDINGS:
        return ending_of(name)
    if kind:
        return kind
    if _is_text(head):
        return "text"
    try:
        found = puremagic.magic_string(head)
    except (puremagic.PureError, ValueError):
        return "unknown"
    return next((match.extension.lstrip(".").lower() for match in found if match.extension), "unknown")


def misfit(head: bytes, name: str) -> str:
    """What the content is instead of what its ending says; empty when they agree, or when nothing can be said."""
    ending = ending_of(name)
    if not head:
        return ""
    kind = _sure(head, ending)
    if kind:
        fits = frozenset[str]().union(*(endings for one, _, endings in SURE if one == kind))
        judged = kind == "program" or ending in HAVE_SIGNATURE | PLAIN_TEXT | OLE_ENDINGS
        return kind if judged and ending not in fits else ""
    if ending in HAVE_SIGNATURE:
        return "something else"
    if ending in PLAIN_TEXT and not _is_text(head):
        return "no text"
    return ""


def _sure(head: bytes, ending: str) -> str:
    kind = next((kind for kind, magic, _ in SURE if head.startswith(magic)), "")
    if kind == "program" and head.startswith(b"MZ") and (len(head) < 64 or _is_text(head)):
        return ""
    return kind or ("pdf" if ending == "pdf" and b"%PDF-" in head[:PDF_WITHIN] else "")


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return b"\0" not in head
