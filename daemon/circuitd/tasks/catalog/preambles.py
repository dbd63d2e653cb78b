"""Lines that may stand before a task's code, alike on both sides, to vary what surrounds it."""

from __future__ import annotations

from circuitd.tasks.template import TwoSided
from circuitd.tasks.words import Split

PREAMBLES: dict[Split, tuple[TwoSided, ...]] = {
    "train": tuple(
        TwoSided(text)
        for text in (
            "import <m8>\n\n",
            "import <m8>\nimport <m9>\n\n",
            "from <m8> import <v8>\n\n",
            "<v8> = <n8>\n",
            "<v8> = <f8>(<v9>)\n",
            "<v8> = <v9>.<f8>()\n",
            "# <w8> <w9>\n",
            "# <w7> <w8> <w9>\n",
            "def <f8>(<v8>):\n    return <v8>\n\n",
            "<v8> = []\n",
            "<v8> = <q8><w8><q8>\n",
            "if <v8>:\n    <f8>()\n",
            "<v8>.append(<v9>)\n",
            "print(<v8>)\n",
            "class <C8>:\n    pass\n\n",
        )
    ),
    "held_out": tuple(
        TwoSided(text)
        for text in (
            "import <m8> as <v8>\n\n",
            "<C8> = <m8>.<C9>\n",
            "try:\n    import <m8>\nexcept ImportError:\n    <m8> = None\n\n",
            "<v8>, <v9> = <f8>()\n",
            "assert <v8> > <n8>\n",
            "#: <w7> <w8> <w9>\n",
            "<v8> = <v9> or <n8>\n",
            "del <v8>\n",
        )
    ),
}
