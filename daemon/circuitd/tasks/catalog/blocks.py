"""Tasks about statements and blocks: what a header needs, where it ends, what follows it."""

from __future__ import annotations

from circuitd.tasks.template import template as t

from .spec import TaskSpec

WITH_AS = TaskSpec(
    name="with_as",
    description=(
        "A call in a `with` header closes with `)` and goes on with `as`; a call that is a whole "
        "statement closes with `)` and a newline."
    ),
    targets=("«)¦)\n»",),
    aligned=True,
    train=(
        t("def <f1>(<v1>):\n    «with¦return» open(<v1>", "«) as <v2>:\n        <f2>(<v2>)¦)»\n"),
        t("«with¦return» <f1>(<v1>", "«) as <v2>:\n    <f2>(<v2>)¦)»\n"),
        t("«with <v1>.¦<v1> = »<f1>(<v2>", "«) as <v3>:\n    <f2>(<v3>)¦)»\n"),
        t("    «with¦return» open(<v1>, <v2>", "«) as <v3>:\n        <v3>.<f2>()¦)»\n"),
        t(
            "def <f1>(<v1>):\n    <v2> = <n1>\n    «with¦return» <f2>(<v1>, <v2>",
            "«) as <v3>:\n        <v3>.<f3>()¦)»\n",
        ),
    ),
    held_out=(
        t("if <v1>:\n    «with¦return» open(<v1>", "«) as <v2>:\n        <f2>(<v2>)¦)»\n"),
        t(
            "def <f1>(self):\n    «with¦return» self.<f2>(<v1>",
            "«) as <v2>:\n        <f3>(<v2>)¦)»\n",
        ),
        t("for <v1> in <v2>:\n    «with¦return» <v3>.<v4>(<v1>", "«) as <v5>:\n        pass¦)»\n"),
    ),
)

WITH_OPEN = TaskSpec(
    name="with_open",
    description="The mode of `open` follows from what the code is about to do: `r` against `w`.",
    targets=("«r¦w»",),
    aligned=False,
    train=(
        t(
            "def «read¦write»_<v1>(<v2>):\n    with open(<v2>, <q1>",
            "«r¦w»<q1>) as f:\n        «return f.read()¦f.write(<v1>)»\n",
        ),
        t(
            "def «load¦save»_<v1>(<v2>):\n    with open(<v2>, <q1>",
            "«r¦w»<q1>) as f:\n        «return f.read()¦f.write(<v1>)»\n",
        ),
        t(
            "# «read¦write» the <v1>\nwith open(<v2>, <q1>",
            "«r¦w»<q1>) as <v3>:\n    «<v1> = <v3>.read()¦<v3>.write(<v1>)»\n",
        ),
        t(
            "class <C1>:\n    def «read¦write»(self, <v1>):\n        with open(<v1>, <q1>",
            "«r¦w»<q1>) as f:\n            «return f.read()¦f.write(self.<v2>)»\n",
        ),
        t("def «reader¦writer»(<v1>):\n    return open(<v1>, <q1>", "«r¦w»<q1>)\n"),
        t("«load¦save»_<v1> = open(<v2>, <q1>", "«r¦w»<q1>)\n"),
    ),
    held_out=(
        t(
            "def «read¦write»(<v1>):\n    <v2> = open(<v1>, <q1>",
            "«r¦w»<q1>)\n    «return <v2>.read()¦<v2>.write(<v3>)»\n",
        ),
        t(
            "class <C1>:\n    def «load¦save»(self):\n        with open(self.<v1>, <q1>",
            "«r¦w»<q1>) as f:\n            «return f.read()¦f.write(self.<v2>)»\n",
        ),
        t(
            "if <v1>:\n    # «read¦write» the <v2>\n    with open(<v3>, <q1>",
            "«r¦w»<q1>) as f:\n        «<v2> = f.read()¦f.write(<v2>)»\n",
        ),
    ),
)

FOR_WHILE = TaskSpec(
    name="for_while",
    description="`for x` goes on with `in`, `while x` with `:`.",
    targets=("« in¦:\n»", "« in¦:»"),
    aligned=False,
    train=(
        t("«for¦while» <v1>", "« in <v2>¦»:\n    <f1>(<v1>)\n"),
        t("def <f1>(<v1>):\n    «for¦while» <v2>", "« in <v1>¦»:\n        <f2>(<v2>)\n"),
        t("<v1> = <f1>(<v2>)\n«for¦while» <v3>", "« in <v1>¦»:\n    print(<v3>)\n"),
        t(
            "class <C1>:\n    def <f1>(self):\n        «for¦while» <v1>",
            "« in self.<v2>¦»:\n            self.<f2>(<v1>)\n",
        ),
        t("<v1> = []\n«for¦while» <x1>", "« in <v2>¦»:\n    <v1>.append(<x1>)\n"),
        t("if <v1>:\n    «for¦while» <v2>", "« in <v1>¦»:\n        <v2>.<f1>()\n"),
    ),
    held_out=(
        t("try:\n    «for¦while» <v1>", "« in <v2>¦»:\n        <f1>(<v1>)\n"),
        t("<v1> = {}\n«for¦while» <v2>", "« in <v3>¦»:\n    <v1>[<v2>] = <n1>\n"),
        t("with <v1>:\n    «for¦while» <v2>", "« in <v1>¦»:\n        pass\n"),
    ),
)

ELSE_ELIF = TaskSpec(
    name="else_elif",
    description="`else` goes on with `:`, `elif` with the variable under test.",
    targets=("«:\n¦ <v1>»", "«:¦ <v1>»"),
    aligned=True,
    train=(
        t(
            "if <v1> == <n1>:\n    <v2> = <n2>\nel«se¦if»",
            "«¦ <v1> == <n3>»:\n    <v2> = <n4>\n",
        ),
        t("if <v1> > <n1>:\n    <f1>(<v1>)\nel«se¦if»", "«¦ <v1> > <n2>»:\n    <f2>(<v1>)\n"),
        t(
            "def <f1>(<v1>):\n    if <v1> is None:\n        return <n1>\n    el«se¦if»",
            "«¦ <v1> == <n2>»:\n        return <v1>\n",
        ),
        t("if <v1> in <v2>:\n    print(<v1>)\nel«se¦if»", "«¦ <v1> in <v3>»:\n    print(<v2>)\n"),
        t("if <v1> < <n1>:\n    <v1> += <n2>\nel«se¦if»", "«¦ <v1> < <n3>»:\n    <v1> -= <n4>\n"),
    ),
    held_out=(
        t(
            "for <x1> in <v2>:\n    if <v1> != <x1>:\n        break\n    el«se¦if»",
            "«¦ <v1> == <n1>»:\n        continue\n",
        ),
        t("if <v1> >= <n1>:\n    raise <C1>(<v1>)\nel«se¦if»", "«¦ <v1> <= <n2>»:\n    pass\n"),
        t("if <v1> is <v2>:\n    yield <v1>\nel«se¦if»", "«¦ <v1> is <v3>»:\n    yield <v3>\n"),
    ),
)

IF_TERNARY = TaskSpec(
    name="if_ternary",
    description="A condition in an expression goes on with `else`, one in a statement with `:`.",
    targets=("« else¦:\n»", "« else¦:»"),
    aligned=False,
    train=(
        t("<v1> = <v2>«.<v3> ¦\n»if <v4>", "« else <v5>¦:\n    <f1>(<v5>)»\n"),
        t("<v1> = <n1>« + <n2> ¦\n<f1>()\n»if <v4>", "« else <n3>¦:\n    <f2>(<v5>)»\n"),
        t(
            "def <f1>(<v1>):\n    <v2> = <v1>«.<v3>.<v4>¦\n   » if <v5>",
            "« else <n1>¦:\n        return <v2>»\n",
        ),
        t(
            "def <f1>(<v1>, <v2>):\n    <v3> = <v1>«.<v4>.<v5>¦\n   » if <v2>",
            "« else <v2>¦:\n        <f2>(<v3>)»\n",
        ),
        t("<v1>.<v2> = <v3>«.<v4> ¦\n»if <v5>", "« else <v6>¦:\n    <v1>.<f1>()»\n"),
    ),
    held_out=(
        t(
            "class <C1>:\n    <v1> = <v2>«.<v3>.<v4>¦\n   » if <v5>",
            "« else <v6>¦:\n        <v6> = <n1>»\n",
        ),
        t("<v1> += <v2>«.<v3> ¦\n»if <v4>", "« else <n1>¦:\n    <v1> -= <n2>»\n"),
        t(
            "for <x1> in <v1>:\n    <v2> = <x1>«.<v3>.<v4>¦\n   » if <v5>",
            "« else <x1>¦:\n        break»\n",
        ),
    ),
)

INDENT_FOR = TaskSpec(
    name="indent_for",
    description="After a `for` header the next line indents deeper, after a plain statement not.",
    targets=("«       ¦   »",),
    aligned=False,
    train=(
        t(
            "def <f1>(<v1>):\n    «for <v2> in <v1>:¦<v2> = <f2>(<v1>)»\n",
            "    «    <f2>(<v2>)¦return <v2>»\n",
        ),
        t(
            "def <f1>(<v1>, <v2>):\n    «for <v3> in <v2>:¦<v3> = <v2>()»\n",
            "    «    print(<v3>)¦return <v3>»\n",
        ),
        t(
            "class <C1>:\n    «for <v1> in <v2>:¦<v1> = <v2>()»\n",
            "    «    <v3> = <v1>¦<v3> = <v1>»\n",
        ),
        t(
            "if <v1>:\n    <v2> = <n1>\n    «for <v3> in <v4>:¦<v3> = <v4>()»\n",
            "    «    <v2> += <v3>¦<v2> = <v3>»\n",
        ),
    ),
    held_out=(
        t(
            "while <v1>:\n    «for <v2> in <v3>:¦<v2> = <v3>()»\n",
            "    «    <f1>(<v2>)¦<f1>(<v2>)»\n",
        ),
        t(
            "try:\n    «for <x1> in <v1>:¦<x1> = <v1>()»\n",
            "    «    <v1>.<f1>(<x1>)¦<v1>.<f1>(<x1>)»\n",
        ),
        t(
            "def <f1>():\n    global <v1>\n    «for <x1> in <v2>:¦<x1> = <v2>()»\n",
            "    «    <v1> = <x1>¦<v1> = <x1>»\n",
        ),
    ),
)

IF_EQUALS = TaskSpec(
    name="if_equals",
    description="A condition compares with `==`, a statement assigns with `=`.",
    targets=("« ==¦ =»",),
    aligned=True,
    train=(
        t("«if ¦self.»<v1>", "« == <v2>:\n    <f1>(<v1>)¦ = <v2>»\n"),
        t(
            "def <f1>(<v1>, <v2>):\n    «if <v1>¦<v2>.<v3>»",
            "« == <v2>:\n        return <v2>¦ = <v1>»\n",
        ),
        t(
            "class <C1>:\n    def <f1>(self, <v1>):\n        «if <v1>¦self.<v1>»",
            "« == <n1>:\n            return <n2>¦ = <v1>»\n",
        ),
        t("for <v1> in <v2>:\n    «if <v1>¦<v1>.<v3>»", "« == <n1>:\n        break¦ = <n1>»\n"),
        t("<v1> = <f1>(<v2>)\n«if <v1>¦<v1>.<v3>»", "« == <n1>:\n    <f2>(<v1>)¦ = <n1>»\n"),
    ),
    held_out=(
        t("while <v1>:\n    «if ¦self.»<v2>", "« == <n1>:\n        break¦ = <n1>»\n"),
        t(
            "def <f1>(self):\n    <v1> = self.<v2>\n    «if ¦self.»<v1>",
            "« == <v4>:\n        return <v1>¦ = <v4>»\n",
        ),
        t("try:\n    «if ¦self.»<v1>", "« == <v3>:\n        pass¦ = <v3>»\n"),
    ),
)

ENUMERATE_RANGE = TaskSpec(
    name="enumerate_range",
    description="A loop over two names enumerates, a loop over one index counts through a range.",
    targets=("« enumerate¦ range»", "« enumer¦ range»", "« enum¦ range»", "« en¦ range»"),
    aligned=False,
    train=(
        t("for <x1>«, <v1>¦» in", "« enumerate(<v2>¦ range(<n1>»):\n    <f1>(<x1>)\n"),
        t(
            "def <f1>(<v1>):\n    for i«, <v2>¦» in",
            "« enumerate(<v1>¦ range(<n1>»):\n        print(i)\n",
        ),
        t("<v1> = []\nfor i«, <v2>¦» in", "« enumerate(<v3>¦ range(<v4>»):\n    <v1>.append(i)\n"),
        t("<v1> = <n1>\nfor <x1>«, <x2>¦» in", "« enumerate(<v2>¦ range(<v1>»):\n    <f1>(<x1>)\n"),
        t(
            "class <C1>:\n    def <f1>(self):\n        for i«, <v1>¦» in",
            "« enumerate(self.<v2>¦ range(self.<v2>»):\n            self.<f2>(i)\n",
        ),
    ),
    held_out=(
        t("if <v1>:\n    for <x1>«, <v2>¦» in", "« enumerate(<v1>¦ range(<v1>»):\n        pass\n"),
        t(
            "while <v1>:\n    for <x1>«, <x2>¦» in",
            "« enumerate(<v2>¦ range(<n1>»):\n        break\n",
        ),
        t(
            "<v1> = {}\nfor <x1>«, <v2>¦» in",
            "« enumerate(<v3>¦ range(<n1>»):\n    <v1>[<x1>] = <n2>\n",
        ),
    ),
)

VAR_IF = TaskSpec(
    name="var_if",
    description="After `if x` comes `:`, after a variable that starts a statement `=`.",
    targets=("«:\n¦ =»", "«:¦ =»"),
    aligned=True,
    train=(
        t("«if ¦self.»<v1>", "«:\n    <f1>(<v1>)¦ = <v2>»\n"),
        t("def <f1>(<v1>, <v2>):\n    «if <v1>¦<v2>.<v3>»", "«:\n        return <v2>¦ = <v1>»\n"),
        t(
            "class <C1>:\n    def <f1>(self, <v1>):\n        «if <v1>¦self.<v1>»",
            "«:\n            return <n2>¦ = <v1>»\n",
        ),
        t("for <v1> in <v2>:\n    «if <v1>¦<v1>.<v3>»", "«:\n        break¦ = <n1>»\n"),
        t("<v1> = <f1>(<v2>)\n«if <v1>¦<v1>.<v3>»", "«:\n    <f2>(<v1>)¦ = <n1>»\n"),
    ),
    held_out=(
        t("while True:\n    «if ¦self.»<v1>", "«:\n        break¦ = <n1>»\n"),
        t("def <f1>(self):\n    «if <v1>¦self.<v1>»", "«:\n        return <v2>¦ = <v2>»\n"),
        t("with <v1> as <v2>:\n    «if ¦self.»<v3>", "«:\n        pass¦ = <v4>»\n"),
    ),
)

WHILE_RETURN_TRUE = TaskSpec(
    name="while_return_true",
    description="`while True` goes on with `:`, `return True` ends its line.",
    targets=("«:\n¦\n»", "«:¦\n»"),
    aligned=False,
    train=(
        t(
            "def <f1>(<v1>):\n    if <v1>:\n        «while¦return» True",
            "«:\n            <f2>(<v1>)¦»\n    return False\n",
        ),
        t(
            "def <f1>(<v1>, <v2>):\n    if <v1> == <v2>:\n        «while¦return» True",
            "«:\n            <v1>.<f2>()¦»\n    return <v2>\n",
        ),
        t("def <f1>():\n    <v1> = <n1>\n    «while¦return» True", "«:\n        <v1> += 1¦»\n"),
        t(
            "class <C1>:\n    def <f1>(self):\n        «while¦return» True",
            "«:\n            self.<f2>()¦»\n",
        ),
        t(
            "def <f1>(<v1>):\n    for <v2> in <v1>:\n        «while¦return» True",
            "«:\n            <f2>(<v2>)¦»\n    return False\n",
        ),
    ),
    held_out=(
        t(
            "def <f1>(self, <v1>):\n    self.<v2> = <v1>\n    «while¦return» True",
            "«:\n        self.<f2>()¦»\n",
        ),
        t(
            "def <f1>(<v1>):\n    try:\n        «while¦return» True",
            "«:\n            <f2>(<v1>)¦»\n    except <C1>:\n        pass\n",
        ),
        t(
            "def <f1>(<v1>):\n    with <v1>:\n        «while¦return» True",
            "«:\n            <v1>.<f2>()¦»\n    return None\n",
        ),
    ),
)

TASKS = (
    WITH_AS,
    WITH_OPEN,
    FOR_WHILE,
    ELSE_ELIF,
    IF_TERNARY,
    INDENT_FOR,
    IF_EQUALS,
    ENUMERATE_RANGE,
    VAR_IF,
    WHILE_RETURN_TRUE,
)
