"""`HOST:PORT`, as it is written where something is to listen."""

import re
from typing import Final

_HOST: Final = re.compile(r"\[[0-9a-fA-F:.]+(?:%\w+)?\]|[\w.:%-]+")
"""IPv6 may stand in brackets or without."""


def host_port(text: str) -> tuple[str, int]:
    """The host and the port, 0 included.

    Raises:
        ValueError: it is something else, such as a URL.
    """
    host, _, port = text.rpartition(":")
    # Without `int` at once: it takes other scripts' digits, blanks and underscores.
    if not _HOST.fullmatch(host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    host = host.strip("[]")
    host.encode("idna")  # as the resolver will: a name that it can't take is no OSError
    return host, int(port)
