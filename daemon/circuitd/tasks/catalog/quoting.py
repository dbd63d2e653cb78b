"""Tasks about closing what was opened: quotes, brackets, braces."""

from __future__ import annotations

from circuitd.tasks.template import template as t

from .spec import TaskSpec

SINGLE_DOUBLE_QUOTE = TaskSpec(
    name="single_double_quote",
    description="Close a string with the kind of quote that opened it: `')` against `\")`.",
    targets=("«')\n¦\")\n»", "«')¦\")»", "«'¦\"»"),
    aligned=True,
    train=(
        t("print(«'¦\"»<w1> <w2>", "«'¦\"»)\n"),
        t("print(«'¦\"»<w1>", "«'¦\"»)\n"),
        t("<v1> = <f1>(«'¦\"»<w1>", "«'¦\"»)\n"),
        t("def <f1>(<v1>):\n    return <v1>.get(«'¦\"»<w1>", "«'¦\"»)\n"),
        t(
            "class <C1>:\n    def <f1>(self):\n        self.<v1>.<f2>(«'¦\"»<w1> <w2> <w3>",
            "«'¦\"»)\n",
        ),
        t("raise ValueError(«'¦\"»<w1> <w2>", "«'¦\"»)\n"),
        t("if <v1> is None:\n    print(«'¦\"»<w1> <w2> <w3>", "«'¦\"»)\n"),
        t("<v1> = <v2>.<f1>(<v3>, «'¦\"»<w1>", "«'¦\"»)\n"),
        t("print(<v1>, <v2>, «'¦\"»<w1> <w2> <w3> <w4>", "«'¦\"»)\n"),
    ),
    held_out=(
        t("for <v1> in <v2>:\n    <v3>.<f1>(«'¦\"»<w1> <w2>", "«'¦\"»)\n"),
        t("while <v1>:\n    <v2> = <v3>.<f1>(«'¦\"»<w1>", "«'¦\"»)\n"),
        t("<v1>.<v2> = <C1>(<v3>, «'¦\"»<w1> <w2>", "«'¦\"»)\n"),
        t("def <f1>(self):\n    return <C1>(«'¦\"»<w1> <w2> <w3>", "«'¦\"»)\n"),
    ),
)

# No prompt can end its line at the bracket: at a line's end a small vocabulary splits `]]` and the
# newline as `]` and `]\n`, and then `]` would be right on both sides.
BRACKET_COUNTING = TaskSpec(
    name="bracket_counting",
    description="Close as many brackets as are open: `]` against `]]`.",
    targets=("«]¦]]»",),
    aligned=True,
    train=(
        t("<v1>[<v2>«.¦[»<v3>", "«]¦]]» = <v4>\n"),
        t("<v1>[<v2>«.¦[»<v3>", "«]¦]]» += <n1>\n"),
        t("for <v3> in <v4>:\n    <v1>[<v2>«.¦[»<v3>", "«]¦]]» = <n1>\n"),
        t("self.<v1>[<v2>«.¦[»<v3>", "«]¦]]» = <v4>\n"),
        t("<v1> = <v2> if <v3> in «[¦[[»<v4>, <v5>", "«]¦]]» else <v6>\n"),
        t("<v1> = <n1> if <v2> in «[¦[[»<n2>, <n3>, <n4>", "«]¦]]» else <n5>\n"),
        t("<v1> = <v2> if <v3>[<v4>«.¦[»<v5>", "«]¦]]» else <v6>\n"),
        t("def <f1>(<v1>, <v2>):\n    <v1>[<v2>«.¦[»<v3>", "«]¦]]» = <v2>\n    return <v1>\n"),
        t(
            "<v1> = <v2> if <v3> in [[<v4>, <v5>«],¦,» <v6>, <v7>",
            "«]¦]]» else <n1>\n",
        ),
        t("<v1> = <v2> if <v3> == «[¦[[»<v4>, <v5>, <v6>", "«]¦]]» else <v6>\n"),
        t("<v1>[<v2>«.¦[»<v3>, <v4>", "«]¦]]» = <v5>\n"),
        t("<v1> = <v2> if <v3> in «[¦[[»<x1>, <x2>", "«]¦]]» else <v4>\n"),
        t("<v1>.<v2> = <n1> if <v3> == «[¦[[»<v4>, <v5>", "«]¦]]» else <v6>\n"),
        t("<v1>[<v2>«.¦[»<x1>", "«]¦]]» = <v3>\n"),
    ),
    held_out=(
        t("if <v1>:\n    <v2>[<v3>«.¦[»<v4>", "«]¦]]» = <v1>\n"),
        t("while <v1>:\n    <v2>[<v1>«.¦[»<x1>", "«]¦]]» += <n1>\n"),
        t("return <v1> if <v2> in «[¦[[»<v3>, <v4>, <v5>", "«]¦]]» else <v2>\n"),
        t("    <v1>.<v2> = <v3> if <v4> in «[¦[[»<x1>, <x2>", "«]¦]]» else <n1>\n"),
    ),
)

BRACKET_BRACE = TaskSpec(
    name="bracket_brace",
    description="After the first element of a dict comes `:`, of a list `,`.",
    targets=("«:¦,»",),
    aligned=True,
    train=(
        t("<v1> = «{¦[»<v2>", "«: <v3>}¦, <v3>]»\n"),
        t("<v1> = «{¦[»<n1>", "«: <n2>, <n3>: <n4>}¦, <n2>, <n3>]»\n"),
        t("def <f1>(<v1>, <v2>):\n    return «{¦[»<v1>", "«: <v2>}¦, <v2>]»\n"),
        t("<v1>.<v2> = «{¦[»<v3>.<v4>", "«: <v5>}¦, <v5>]»\n"),
        t("for <x1> in <v1>:\n    <v2> = «{¦[»<x1>", "«: <v3>}¦, <v3>]»\n"),
        t("<v1>.<f1>(<v2>, «{¦[»<v3>", "«: <v4>})¦, <v4>])»\n"),
    ),
    held_out=(
        t("if <v1> is not None:\n    <v2> = «{¦[»<v3>", "«: <v4>}¦, <v4>]»\n"),
        t("while <v1>:\n    yield «{¦[»<v2>", "«: <v3>}¦, <v3>]»\n"),
        t("def <f1>(self):\n    self.<v1> = «{¦[»<n1>", "«: <v2>}¦, <v2>]»\n"),
    ),
)

FSTRING_BRACE = TaskSpec(
    name="fstring_brace",
    description="An expression inside an f-string ends with `}`, an argument with `)`.",
    targets=("«}¦)\n»", "«}¦)»"),
    aligned=True,
    train=(
        t('print(«f"<w1> {¦"<w1> <w2>", »<v1>', '«} <w3>")¦)»\n'),
        t('raise ValueError(«f"<w1> {¦"<w1> <w2>", »<v1>', '«} <w3>")¦)»\n'),
        t("<v1> = <f1>(«f'<w1> {¦'<w1> <w2>', »<v2>", "«} <w3>')¦)»\n"),
        t("def <f1>(<v1>):\n    print(«f'<w1> {¦'<w1> <w2>', »<v1>", "«} <w3>')¦)»\n"),
        t('<v1>.<f1>(«f"<w1> <w2> {¦"<w1> <w2> <w3>", »<v2>.<v3>', '«} <w3>")¦)»\n'),
    ),
    held_out=(
        t('for <v1> in <v2>:\n    <v3>.<f1>(«f"<w1> {¦"<w1> <w2>", »<v1>', '«} <w3>")¦)»\n'),
        t("if not <v1>:\n    print(«f'<w1> {¦'<w1> <w2>', »<v2>", "«} <w3>')¦)»\n"),
        t('self.<v1> = <C1>(«f"<w1> <w2> {¦"<w1> <w2> <w3>", »<v2>', '«} <w4>")¦)»\n'),
    ),
)

TASKS = (SINGLE_DOUBLE_QUOTE, BRACKET_COUNTING, BRACKET_BRACE, FSTRING_BRACE)
