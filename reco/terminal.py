"""Text that others wrote, made safe for a terminal."""

import unicodedata


def printable(text: str) -> str:
    """Text that moves no cursor, changes no colour and turns no line around, whoever wrote it."""
    if text.isprintable():
        return text
    return "".join(sign if _harmless(sign) else _escaped(sign) for sign in text)


def printable_lines(text: str) -> str:
    """The same for text of several lines, which it keeps."""
    return "\n".join(map(printable, text.split("\n")))


def _harmless(sign: str) -> bool:
    return sign.isprintable() or unicodedata.category(sign) == "Zs"  # blanks that do not break


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()
