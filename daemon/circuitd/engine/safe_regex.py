"""Regular expressions from strangers, limited so that none of them can hang a matcher.

Site names are shorter than 30 characters, so a backtracking matcher is quick unless repetition
nests or alternates inside a repetition (exponential) or many repetitions follow each other
(polynomial of high degree). Those are refused; of what is left, three long
repetitions in a row took 0.3 ms over 168 names.
"""

from __future__ import annotations

import re

from circuitd.engine.errors import UnknownSite

MAX_LENGTH = 200
MAX_REPETITIONS = 3

_TOKEN = re.compile(
    r"""(?P<escape>\\.) | (?P<set>\[\^?\]?(?:\\.|[^\]\\])*\]) | (?P<open>\((?:\?:)?)
      | (?P<close>\)) | (?P<repeat>[*+]|\{[^}]*\}) | (?P<maybe>\?) | (?P<or>\|) | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


def compile_safe(expression: str) -> re.Pattern[str]:
    """Compile `expression`, or raise `UnknownSite` saying which part is not accepted."""
    problem = _problem(expression)
    if problem is None:
        try:
            return re.compile(expression)
        except re.error as error:
            problem = f"not a regular expression: {error}"
    raise UnknownSite(
        f"regular expression {expression[:MAX_LENGTH]!r}",
        problem,
        "exact names and globs such as *.attn.q have no such limits",
    )


def _problem(expression: str) -> str | None:
    if len(expression) > MAX_LENGTH:
        return f"{len(expression)} characters, and {MAX_LENGTH} are the limit"
    n_repetitions = 0
    groups = [False]  # per open group: whether it holds a repetition, an option or alternatives
    closed = False  # whether the group that ended just before this token holds one
    for token in _TOKEN.finditer(expression):
        kind = token.lastgroup
        if kind == "escape" and token[0][1].isdigit():
            return "back-references are not accepted"
        if kind == "open":
            if expression.startswith("(?", token.start()) and token[0] != "(?:":
                return "only plain groups and (?:…) are accepted"
            groups.append(False)
        elif kind == "repeat":
            n_repetitions += 1
            if closed:
                return "a repeated group may hold no repetition, option or alternatives"
            groups[-1] = True
        elif kind in ("maybe", "or"):
            groups[-1] = True
        held = False
        if kind == "close" and len(groups) > 1:
            held = groups.pop()
            groups[-1] = groups[-1] or held
        closed = held
    if n_repetitions > MAX_REPETITIONS:
        return f"{n_repetitions} repetitions, and {MAX_REPETITIONS} are the limit"
    return None
