"""Whether a name of the protocol means anything to the daemon, and what was meant instead."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from circuit_client.notation import parse_interventions, parse_nodes
from circuit_lsp.facts import Facts, ModelFacts
from circuit_lsp.own_files.names import Written
from circuit_protocol.errors import CircuitError, InvalidRequest

_ALIAS = re.compile(r"blocks\.|hook_|ln_final|unembed")


@dataclass(frozen=True, slots=True)
class Finding:
    """A name that means nothing: what to say, at which offsets, and the nearest that do."""

    message: str
    start: int
    end: int
    nearest: tuple[str, ...] = ()


def nearest(name: str, known: list[str]) -> tuple[str, ...]:
    """The names that `name` may have meant, the likeliest first."""
    return tuple(get_close_matches(name, known, n=3, cutoff=0.5))


async def check(facts: Facts, model: ModelFacts, names: list[Written]) -> list[Finding]:
    """What is wrong with some names. Raises CircuitError where the daemon cannot be asked."""
    found: list[Finding] = []
    for name in names:
        match name.kind:
            case "model":
                known = [m.name for m in await facts.models()]
                is_elsewhere = "/" in name.text or "." in name.text or not name.text
                if name.text not in known and not is_elsewhere:
                    found.append(_unknown("model", name, known))
            case "task":
                known = [t.name for t in await facts.tasks()]
                if name.text not in known and name.text:
                    found.append(_unknown("task", name, known))
            case "circuit":
                if name.text:
                    found += await _circuit(facts, name)
            case "site":
                found += _site(model, name.text, name.start)
            case "nodes":
                found += _nodes(model, name)
            case "interventions":
                found += _interventions(model, name)
    return found


def _unknown(what: str, name: Written, known: list[str]) -> Finding:
    near = nearest(name.text, known)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return Finding(f"no {what} has this name{hint}", name.start, name.end, near)


async def _circuit(facts: Facts, name: Written) -> list[Finding]:
    circuits = await facts.circuits()
    ids = [c.id for c in circuits]
    places = [f"{c.task}/{c.sweep}/{c.label}" for c in circuits]
    places += [f"{c.model}/{place}" for c, place in zip(circuits, places, strict=True)]
    if name.text in places or any(i.startswith(name.text) for i in ids):
        return []
    return [_unknown("circuit", name, [*ids, *places])]


def site_matches(model: ModelFacts, selector: str) -> list[str]:
    """The sites that a selector names; aliases of other tools are taken on trust."""
    names = list(model.widths)
    if selector in model.widths:
        return [selector]
    if selector.startswith("re:"):
        try:
            pattern = re.compile(selector[3:])
        except re.error:
            return []
        return [n for n in names if pattern.fullmatch(n)]
    if re.search(r"[*?\[]", selector):
        return [n for n in names if fnmatchcase(n, selector)]
    return names if _ALIAS.match(selector) else []


def _site(model: ModelFacts, selector: str, start: int) -> list[Finding]:
    if not selector or site_matches(model, selector):
        return []
    near = nearest(selector, list(model.widths))
    hint = f"; did you mean `{near[0]}`?" if near else ""
    message = f"{model.name} has no site of this name{hint}"
    return [Finding(message, start, start + len(selector), near)]


def _nodes(model: ModelFacts, name: Written) -> list[Finding]:
    found: list[Finding] = []
    for word in re.finditer(r"[^\s;]+", name.text):
        start = name.start + word.start()
        try:
            (nodes,) = parse_nodes(word[0])
        except InvalidRequest as e:
            found.append(Finding(str(e), start, start + len(word[0])))
            continue
        wrong = _site(model, nodes.site, start)
        found += wrong
        width = model.widths.get(nodes.site)
        if width is not None:
            found += _channels(model, nodes.site, nodes.channels, width, start, len(word[0]))
    return found


def _channels(
    model: ModelFacts,
    site: str,
    channels: tuple[int, ...] | None,
    width: int,
    start: int,
    length: int,
) -> list[Finding]:
    beyond = [c for c in channels or () if not 0 <= c < width]
    if not beyond:
        return []
    message = f"{site} of {model.name} has channels 0 to {width - 1}, and no {beyond[0]}"
    return [Finding(message, start, start + length)]


def _interventions(model: ModelFacts, name: Written) -> list[Finding]:
    try:
        parsed = parse_interventions(name.text)
    except CircuitError as e:
        return [Finding(str(e), name.start, name.end)]
    found: list[Finding] = []
    for one in parsed:
        at = name.text.find(one.site, name.text.find(":"))
        start = name.start + max(0, at)
        found += _site(model, one.site, start)
        width = model.widths.get(one.site)
        if width is not None:
            found += _channels(model, one.site, one.channels, width, start, len(one.site))
    return found
