"""Tasks about names and their types: what a name was bound to, which name must be copied."""

from __future__ import annotations

from circuitd.tasks.template import Template, template
from circuitd.tasks.template import template as t

from .spec import TaskSpec


def _set_or_string(
    pattern: str, name: str, completion: str = "«.add(<v2>)¦ += <v2>»\n"
) -> Template:
    return template(pattern.replace("NAME", name), completion)


_GROWING_TRAIN = (
    'NAME = «set()¦""»\nfor <v2> in <v3>:\n    NAME',
    "NAME = «set()¦''»\nfor <v2> in <v3>:\n    NAME",
    'def <f1>(<v3>):\n    NAME = «set()¦""»\n    for <v2> in <v3>:\n        NAME',
    "def <f1>(<v3>):\n    NAME = «set()¦''»\n"
    "    while <v3>:\n        <v2> = <v3>.pop()\n        NAME",
    'NAME = «set()¦""»\n<v4> = <n1>\nfor <v2> in <v3>:\n    NAME',
    "NAME = «set()¦''»\nfor <v2> in <v3>:\n    if <v2>:\n        NAME",
    'class <C1>:\n    def <f1>(self, <v2>):\n        NAME = «set()¦""»\n        NAME',
)
_GROWING_HELD_OUT = (
    'NAME = «set()¦""»\nwhile <v3>:\n    <v2> = <f1>(<v3>)\n    NAME',
    "def <f1>(self):\n    NAME = «set()¦''»\n    for <v2> in self.<v3>:\n        NAME",
    'with <v3> as <v4>:\n    NAME = «set()¦""»\n    for <v2> in <v4>:\n        NAME',
)

SET_OR_STRING = TaskSpec(
    name="set_or_string",
    description="A variable that began as a set grows with `.add`, as a string with `+=`.",
    targets=("«.add¦ +=»", "«.¦ +=»"),
    aligned=True,
    train=tuple(_set_or_string(text, "<v1>") for text in _GROWING_TRAIN),
    held_out=tuple(_set_or_string(text, "<v1>") for text in _GROWING_HELD_OUT),
)

SET_OR_STRING_FIXEDVARNAME = TaskSpec(
    name="set_or_string_fixedvarname",
    description="As set_or_string, with the variable always called `current`.",
    targets=("«.add¦ +=»", "«.¦ +=»"),
    aligned=True,
    train=tuple(_set_or_string(text, "current") for text in _GROWING_TRAIN),
    held_out=tuple(_set_or_string(text, "current") for text in _GROWING_HELD_OUT),
)

FINAL_KWARG = TaskSpec(
    name="final_kwarg",
    description="After parameters with defaults the last one needs `=None`, else the list closes.",
    targets=("«=None¦):\n»", "«=None¦):»", "«=¦)»"),
    aligned=True,
    train=(
        t(
            "def <f1>(<v1>, <v2>«=None, <v3>=None¦, <v3>, <v4>», <v5>",
            "«=None¦»):\n    return <v1>\n",
        ),
        t("def <f1>(<v1>«=None, <v2>=None¦, <v2>, <v3>», <v4>", "«=None¦»):\n    pass\n"),
        t(
            "class <C1>:\n    def __init__(self, <v1>«=None, <v2>=None¦, <v2>, <v3>», <v4>",
            "«=None¦»):\n        self.<v1> = <v1>\n",
        ),
        t(
            "class <C1>(<C2>):\n    def <f1>(self, <v1>, <v2>«=None, <v3>=None¦, <v3>, <v4>», <v5>",
            "«=None¦»):\n        return self.<v1>\n",
        ),
        t(
            "def <f1>(<v1>, <v2>, <v3>«=None, <v4>=None¦, <v4>, <v5>», <v6>",
            "«=None¦»):\n    <v6> = <v1>\n",
        ),
    ),
    held_out=(
        t(
            "@<v6>\ndef <f1>(<v1>, <v2>«=None, <v3>=None¦, <v3>, <v4>», <v5>",
            "«=None¦»):\n    yield <v1>\n",
        ),
        t(
            "async def <f1>(<v1>«=None, <v2>=None¦, <v2>, <v3>», <v4>",
            "«=None¦»):\n    await <v1>\n",
        ),
        t(
            "class <C1>:\n    <v6> = <n1>\n\n"
            "    def <f1>(self, <v1>«=None, <v2>=None¦, <v2>, <v3>», <v4>",
            "«=None¦»):\n        pass\n",
        ),
    ),
)

CLASS_INIT = TaskSpec(
    name="class_init",
    description="`self.x =` in a constructor copies the parameter of that name.",
    targets=("« <v1>¦ <v2>»",),
    aligned=True,
    train=(
        t(
            "class <C1>:\n    def __init__(self, <v1>, <v2>):\n        self.«<v1>¦<v2>» =",
            "« <v1>¦ <v2>»\n",
        ),
        t(
            "class <C1>(<C2>):\n    def __init__(self, <v3>, <v1>, <v2>):\n"
            "        self.<v3> = <v3>\n        self.«<v1>¦<v2>» =",
            "« <v1>¦ <v2>»\n",
        ),
        t(
            "class <C1>:\n    def __init__(self, <v1>, <v2>, <v3>):\n        self.«<v1>¦<v2>» =",
            "« <v1>¦ <v2>»\n",
        ),
        t(
            "class <C1>:\n    def __init__(self, <v2>, <v3>, <v1>):\n        self.«<v1>¦<v2>» =",
            "« <v1>¦ <v2>»\n",
        ),
        t(
            "class <C1>:\n    def __init__(self, <v2>, <v1>):\n        super().__init__()\n"
            "        self.«<v1>¦<v2>» =",
            "« <v1>¦ <v2>»\n",
        ),
    ),
    held_out=(
        t(
            "@dataclass\nclass <C1>:\n    def __init__(self, <v1>, <v2>):\n"
            "        self.«<v1>¦<v2>» =",
            "« <v1>¦ <v2>»\n",
        ),
        t(
            "class <C1>:\n    <v3> = <n1>\n\n    def __init__(self, <v2>, <v1>):\n"
            "        self.<v4> = <n2>\n        self.«<v1>¦<v2>» =",
            "« <v1>¦ <v2>»\n",
        ),
        t(
            "class <C1>(<C2>):\n    def __init__(self, <v1>, <v2>):\n"
            "        super().__init__(<v1>)\n        self.«<v1>¦<v2>» =",
            "« <v1>¦ <v2>»\n",
        ),
    ),
)

VAR_SWAP = TaskSpec(
    name="var_swap",
    description="A swap writes the two names in the other order: `x, y = y, x`.",
    targets=("« <x1>¦ <x2>»",),
    aligned=True,
    train=(
        t("«<x1>, <x2> = <x2>,¦<x2>, <x1> = <x1>,»", "« <x1>¦ <x2>»\n"),
        t("if <x1> > <x2>:\n    «<x1>, <x2> = <x2>,¦<x2>, <x1> = <x1>,»", "« <x1>¦ <x2>»\n"),
        t("def <f1>(<x1>, <x2>):\n    «<x1>, <x2> = <x2>,¦<x2>, <x1> = <x1>,»", "« <x1>¦ <x2>»\n"),
        t(
            "<x1> = <n1>\n<x2> = <n2>\n«<x1>, <x2> = <x2>,¦<x2>, <x1> = <x1>,»",
            "« <x1>¦ <x2>»\n",
        ),
        t(
            "def <f1>(<v1>, <x2>, <x1>):\n    if <v1>:\n"
            "        «<x1>, <x2> = <x2>,¦<x2>, <x1> = <x1>,»",
            "« <x1>¦ <x2>»\n    return <x1>\n",
        ),
    ),
    held_out=(
        t("while <v1>:\n    «<x1>, <x2> = <x2>,¦<x2>, <x1> = <x1>,»", "« <x1>¦ <x2>»\n"),
        t("for <x3> in <v1>:\n    «<x1>, <x2> = <x2>,¦<x2>, <x1> = <x1>,»", "« <x1>¦ <x2>»\n"),
        t(
            "<x2>, <x1> = <f1>(<v1>)\nif <v2>:\n    «<x1>, <x2> = <x2>,¦<x2>, <x1> = <x1>,»",
            "« <x1>¦ <x2>»\n",
        ),
    ),
)

LAMBDA_FUNC = TaskSpec(
    name="lambda_func",
    description="A lambda's parameter is followed by `:`, a method's name by its parameter list.",
    targets=("«:¦(self»", "«:¦(»"),
    aligned=False,
    train=(
        t(
            "class <C1>:\n    «<v1> = lambda¦def» <v2>",
            "«: <v2>.<v3>¦(self, <v1>):\n        return <v1>»\n",
        ),
        t(
            "class <C1>(<C2>):\n    <v1> = <n1>\n    «<v2> = lambda¦def» <x1>",
            "«: <x1> + <n2>¦(self):\n        return self.<v1>»\n",
        ),
        t(
            "class <C1>:\n    def __init__(self, <v1>):\n        self.<v1> = <v1>\n\n"
            "    «<v2> = lambda¦def» <v3>",
            "«: <v3> * <n1>¦(self):\n        return self.<v1>»\n",
        ),
        t(
            "    def <f1>(self):\n        return self.<v1>\n\n    «<v2> = lambda¦def» <v3>",
            "«: <v3>.<f2>()¦(self, <v1>):\n        self.<v1> = <v1>»\n",
        ),
    ),
    held_out=(
        t(
            "class <C1>:\n    <v1> = <f1>(<v2>)\n\n    «<v3> = lambda¦def» <v4>",
            "«: <v4>.<v1>¦(self):\n        pass»\n",
        ),
        t(
            "class <C1>(<C2>):\n    <v1>, <v2> = <n1>, <n2>\n    «<v3> = lambda¦def» <x1>",
            "«: not <x1>¦(self):\n        return None»\n",
        ),
        t(
            "    @staticmethod\n    def <f1>():\n        pass\n\n    «<v1> = lambda¦def» <v2>",
            "«: <v2> - <n1>¦(self, <v1>):\n        pass»\n",
        ),
    ),
)

TASKS = (
    SET_OR_STRING,
    SET_OR_STRING_FIXEDVARNAME,
    FINAL_KWARG,
    CLASS_INIT,
    VAR_SWAP,
    LAMBDA_FUNC,
)
