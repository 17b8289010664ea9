"""The only importer of Apprise. Its errors and logs may quote addresses with passwords: neither leaves this module."""

from __future__ import annotations

import logging

SECONDS = 10  # that a receiver may take to connect, and to answer


class NotTaken(Exception):
    """A receiver did not take a message. The text is for the operator and holds no address."""


def send(url: str, title: str, body: str) -> None:
    """Send one message. Raises NotTaken."""
    import apprise

    for library in ("apprise", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    plugin = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if plugin is None:
        raise NotTaken("the address is none that Apprise knows")
    plugin.socket_connect_timeout = min(float(plugin.socket_connect_timeout), SECONDS)
    plugin.socket_read_timeout = min(float(plugin.socket_read_timeout), SECONDS)
    try:
        # plain text, said so: else Apprise takes what a client named an archive's entry for the HTML of the mail
        taken = plugin.notify(title=title, body=body, notify_type=apprise.NotifyType.INFO, body_format=apprise.NotifyFormat.TEXT)
    except Exception:  # noqa: BLE001 - whatever a plugin raises may quote its address
        taken = False
    if not taken:
        raise NotTaken("it did not take the message: it is down, or the address is wrong")
