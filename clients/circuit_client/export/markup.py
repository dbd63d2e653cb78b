"""Text in XML and HTML: escaped, and without the characters that XML forbids."""

import re
from html import escape

#: What XML 1.0 allows no document to hold, not even escaped.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """`text` with U+FFFD in place of what XML forbids."""
    return _FORBIDDEN.sub("\ufffd", text)


def escaped(text: object) -> str:
    """For an element's text or an attribute in quotes."""
    return escape(clean(str(text)), quote=True)
