"""What the settings ask of a paper, by client, folder and name. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate

from config.checks import ChecksSettings, ClassRule, Match, Rule
from gateway.ingest.checks.kinds import ending_of
from gateway.ingest.verdicts import Verdict, verdict


@dataclass(frozen=True)
class _Pattern:
    client: re.Pattern[str]
    folder: re.Pattern[str]
    name: re.Pattern[str]

    @classmethod
    def of(cls, match: Match) -> _Pattern:
        return cls(_compiled(match.client), _compiled(match.folder), _compiled(match.name))

    def fits(self, client: str, folder: str, name: str) -> bool:
        return bool(self.client.match(client) and self.folder.match(folder) and self.name.match(name))


class Rules:
    """The rules and classes of [checks], ready to be asked."""

    def __init__(self, settings: ChecksSettings) -> None:
        self._rules = [(_Pattern.of(rule), rule) for rule in settings.rules]
        self._classes: list[tuple[_Pattern, re.Pattern[str], ClassRule]] = [(_Pattern.of(one), _compiled(one.type), one) for one in settings.classes]
        self.classes_need_type = any(one.type != "*" for one in settings.classes)

    def rule_for(self, client: str, path: str) -> Rule:
        """The first rule that matches; one that asks for nothing where none does."""
        folder, name = _split(path)
        return next((rule for pattern, rule in self._rules if pattern.fits(client, folder, name)), NO_RULE)

    def class_of(self, client: str, path: str, kind: str) -> str:
        """The class of the first class rule that matches; empty where none does. `kind` is the type by content."""
        folder, name = _split(path)
        return next((one.class_name for pattern, type_, one in self._classes if pattern.fits(client, folder, name) and type_.match(kind.lower())), "")


NO_RULE = Rule()


def breach(rule: Rule, path: str, size: int) -> Verdict | None:
    """What is wrong with a paper by its name and size alone; None when nothing is."""
    name = _split(path)[1]
    if size < rule.smallest_bytes:
        return verdict("too-small", rule.breach)
    if rule.largest_bytes is not None and size > rule.largest_bytes:
        return verdict("too-large", rule.breach)
    if any(_compiled(pattern).match(name) for pattern in rule.forbidden_names):
        return verdict("name", rule.breach)
    if rule.extensions and ending_of(name) not in rule.extensions:
        return verdict("ending", rule.breach)
    return None


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.lower().rpartition("/")
    return folder or "/", name


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.lower()), re.DOTALL)
