"""A small random grammar of Python statements and expressions over the training words."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping


class Grammar:
    """Draws statements; every choice comes from the given generator and pools (`words.POOLS`)."""

    def __init__(self, rng: random.Random, pools: Mapping[str, tuple[str, ...]]) -> None:
        self._draw = rng.random
        self._pools = pools
        self._simple: tuple[Callable[[], str], ...] = (
            self._assign, self._assign, self._call, self._call, self._say, self._grow, self._swap,
            self._attribute, self._subscript, self._choose,
        )  # fmt: skip
        self._compound: tuple[Callable[[str, int], str], ...] = (
            self._if, self._if, self._for, self._for, self._while, self._with, self._def, self._def,
            self._class, self._gather, self._file,
        )  # fmt: skip

    def block(self) -> str:
        """One to three top-level statements, each ending its line."""
        return "".join(self._statement("", 0) for _ in range(1 + int(self._draw() * 3)))

    def _word(self, kind: str) -> str:
        pool = self._pools[kind]
        return pool[int(self._draw() * len(pool))]

    def _name(self) -> str:
        return self._word("v") if self._draw() < 0.85 else self._word("x")

    def _names(self, at_least: int, spread: int) -> list[str]:
        return [self._name() for _ in range(at_least + int(self._draw() * (spread + 1)))]

    def _text(self) -> str:
        return " ".join(self._word("w") for _ in range(1 + int(self._draw() * 5)))

    def _string(self) -> str:
        quote = self._word("q")
        if self._draw() < 0.2:
            return f"f{quote}{self._text()} {{{self._atom()}}} {self._text()}{quote}"
        return f"{quote}{self._text()}{quote}"

    def _atom(self) -> str:
        draw = self._draw()
        if draw < 0.6:
            return self._name()
        if draw < 0.8:
            return self._word("n")
        return f"{self._name()}.{self._name()}"

    def _items(self, depth: int) -> str:
        return ", ".join(self._expression(depth) for _ in range(1 + int(self._draw() * 4)))

    def _expression(self, depth: int = 0) -> str:
        draw = self._draw()
        if depth > 3 or draw < 0.4:
            return self._atom()
        deeper = depth + 1
        if draw < 0.52:
            return f"[{self._items(deeper)}]"
        if draw < 0.58:
            return f"[[{self._items(deeper)}], [{self._items(deeper)}]]"
        if draw < 0.66:
            pairs = (
                f"{self._atom()}: {self._expression(deeper)}"
                for _ in range(1 + int(self._draw() * 3))
            )
            return "{" + ", ".join(pairs) + "}"
        if draw < 0.76:
            return f"{self._word('f')}({self._items(deeper)})"
        if draw < 0.84:
            return self._string()
        if draw < 0.88:
            return f"{self._atom()} if {self._condition()} else {self._atom()}"
        if draw < 0.92:
            variable = self._name()
            return f"lambda {variable}: {variable}.{self._name()}"
        if draw < 0.96:
            return f"{self._name()}[{self._expression(deeper)}]"
        return f"{self._atom()} {'+-*'[int(self._draw() * 3)]} {self._atom()}"

    def _condition(self) -> str:
        draw = self._draw()
        if draw < 0.4:
            return self._name()
        if draw < 0.7:
            return f"{self._name()} == {self._atom()}"
        if draw < 0.8:
            return f"{self._name()} is None"
        if draw < 0.9:
            return f"{self._name()} > {self._word('n')}"
        return f"not {self._name()}"

    def _assign(self) -> str:
        return f"{self._name()} = {self._expression()}"

    def _subscript(self) -> str:
        key = self._atom()
        for _ in range(int(self._draw() * 3)):
            key = f"{self._name()}[{key}]"
        return f"{self._name()}[{key}] {'=' if self._draw() < 0.7 else '+='} {self._atom()}"

    def _choose(self) -> str:
        listed = ", ".join(self._atom() for _ in range(1 + int(self._draw() * 4)))
        depth = 1 + int(self._draw() * 2)
        listed = "[" * depth + listed + "]" * depth
        return f"{self._name()} = {self._atom()} if {self._name()} in {listed} else {self._atom()}"

    def _attribute(self) -> str:
        return f"self.{self._name()} = {self._expression(2)}"

    def _call(self) -> str:
        if self._draw() < 0.5:
            return f"{self._word('f')}({self._items(1)})"
        return f"{self._name()}.{self._word('f')}({self._items(2)})"

    def _say(self) -> str:
        callee = "print" if self._draw() < 0.6 else self._word("f")
        if self._draw() < 0.3:
            return f"{callee}({self._string()}, {self._name()})"
        return f"{callee}({self._string()})"

    def _grow(self) -> str:
        if self._draw() < 0.5:
            return f"{self._name()}.append({self._atom()})"
        return f"{self._name()} += {self._atom()}"

    def _swap(self) -> str:
        first, second = self._name(), self._name()
        return f"{first}, {second} = {second}, {first}"

    def _statement(self, indent: str, depth: int) -> str:
        if depth < 3 and self._draw() < 0.5:
            compound = self._compound[int(self._draw() * len(self._compound))]
            return compound(indent, depth)
        simple = self._simple[int(self._draw() * len(self._simple))]
        return f"{indent}{simple()}\n"

    def _body(self, indent: str, depth: int) -> str:
        inner = indent + "    "
        return "".join(self._statement(inner, depth + 1) for _ in range(1 + int(self._draw() * 2)))

    def _if(self, indent: str, depth: int) -> str:
        text = f"{indent}if {self._condition()}:\n{self._body(indent, depth)}"
        while self._draw() < 0.3:
            text += f"{indent}elif {self._condition()}:\n{self._body(indent, depth)}"
        if self._draw() < 0.5:
            text += f"{indent}else:\n{self._body(indent, depth)}"
        return text

    def _for(self, indent: str, depth: int) -> str:
        draw = self._draw()
        if draw < 0.4:
            header = f"{self._name()} in {self._atom()}"
        elif draw < 0.6:
            header = f"{self._word('x')} in range({self._atom()})"
        elif draw < 0.8:
            header = f"{self._word('x')}, {self._name()} in enumerate({self._atom()})"
        else:
            header = f"{self._name()} in {self._expression(1)}"
        return f"{indent}for {header}:\n{self._body(indent, depth)}"

    def _while(self, indent: str, depth: int) -> str:
        condition = "True" if self._draw() < 0.4 else self._condition()
        return f"{indent}while {condition}:\n{self._body(indent, depth)}"

    def _with(self, indent: str, depth: int) -> str:
        return (
            f"{indent}with {self._word('f')}({self._items(2)}) as {self._name()}:\n"
            f"{self._body(indent, depth)}"
        )

    def _file(self, indent: str, depth: int) -> str:
        reading = self._draw() < 0.5
        quote = self._word("q")
        path, handle, content = self._names(3, 0)
        inner = indent + "    "
        opening = f"with open({path}, {quote}{'r' if reading else 'w'}{quote}) as {handle}:\n"
        action = f"{content} = {handle}.read()" if reading else f"{handle}.write({content})"
        if self._draw() < 0.5:
            verb = (
                ("read", "load")[int(self._draw() * 2)]
                if reading
                else ("write", "save")[int(self._draw() * 2)]
            )
            return f"{indent}def {verb}_{content}({path}):\n{inner}{opening}{inner}    {action}\n"
        return f"{indent}{opening}{inner}{action}\n"

    def _parameters(self) -> str:
        names = list(dict.fromkeys(self._names(1, 4)))
        defaults = int(self._draw() * (len(names) + 1)) if self._draw() < 0.5 else 0
        first = len(names) - defaults
        return ", ".join(f"{n}=None" if i >= first else n for i, n in enumerate(names))

    def _def(self, indent: str, depth: int) -> str:
        text = f"{indent}def {self._word('f')}({self._parameters()}):\n{self._body(indent, depth)}"
        draw = self._draw()
        if draw < 0.2:
            return f"{text}{indent}    return {'True' if draw < 0.12 else 'False'}\n"
        return f"{text}{indent}    return {self._expression(1)}\n" if draw < 0.7 else text

    def _class(self, indent: str, depth: int) -> str:
        names = list(dict.fromkeys(self._names(1, 4)))
        inner, deep = indent + "    ", indent + "        "
        base = f"({self._word('C')})" if self._draw() < 0.4 else ""
        text = f"{indent}class {self._word('C')}{base}:\n"
        text += f"{inner}def __init__(self, {', '.join(names)}):\n"
        copies = list(names)
        if self._draw() < 0.4:
            copies.sort(key=lambda _: self._draw())
        text += "".join(f"{deep}self.{name} = {name}\n" for name in copies)
        if self._draw() < 0.5:
            text += f"\n{inner}def {self._word('f')}(self):\n{deep}return self.{names[0]}\n"
        return text

    def _gather(self, indent: str, depth: int) -> str:
        name = self._name() if self._draw() < 0.8 else "current"
        item, source = self._name(), self._name()
        draw = self._draw()
        if draw < 0.4:
            start, grow = "set()", f".add({item})"
        elif draw < 0.8:
            start, grow = self._word("q") * 2, f" += {item}"
        else:
            start, grow = "[]", f".append({item})"
        text = f"{indent}{name} = {start}\n"
        if self._draw() < 0.3:
            text += f"{indent}{self._assign()}\n"
        inner = indent + "    "
        text += f"{indent}for {item} in {source}:\n"
        if self._draw() < 0.3:
            return f"{text}{inner}if {self._condition()}:\n{inner}    {name}{grow}\n"
        return f"{text}{inner}{name}{grow}\n"
