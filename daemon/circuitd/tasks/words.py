"""Word pools for the slots of task templates; no held-out word occurs in generated training text.

A slot is written `<v1>`: a kind (`v`) and a number. Slots of one kind draw different words.
Numbers and quote characters carry no vocabulary and are shared by both splits; every other pool is
disjoint.
"""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = ("train", "held_out")

_TRAIN_NAMES = """
name value key index count total size items result data line text path node left right start end
first last row col width height user email token message flag done ready limit offset length
buffer chunk word words names values keys lines rows number numbers entry entries record records
group groups score scores level depth point points color shape image pixel model layer weight
weights loss rate step steps epoch batch sample samples table column columns price amount account
order product customer city country street phone date day month year hour minute second timeout
delay retry attempt request reply handler callback worker job jobs thread process pool session
client server socket port host address url page pages link links tag tags root branch leaf edge
edges graph vertex matrix vector array stack heap tree seen found visited best worst low high mid
letter letters char chars digit digits output stream reader writer folder filename directory temp
old new other same previous counter accum sums means average delta ratio factor scale bias noise
seed state states action reward policy agent env board piece move player enemy game map_a key_a
lookup mapping pairs pair response payload packet frame frames track song album artist video
camera sensor signal pulse wave freq phase angle radius area volume mass force speed time obj
line_no match pattern func args kwargs info error errors warning exc module package version
release build test tests case cases check valid invalid
"""

_HELD_OUT_NAMES = """
item code type event status string content target source parent child queue cache config options
params prefix suffix label title body header headers query field fields method attr param option
lock command scope context symbol block expr stmt format mode loop task tasks base parts part
encoding instance params element elements children owner bucket ticket invoice vendor cargo harbor
meadow planet comet lantern orchard violin copper marble velvet saddle anchor basket candle dragon
falcon garden hammer island jacket kettle ladder magnet needle oyster pepper quartz ribbon shadow
temple umbrella valley window yogurt zipper badge cabin dial ferry grove hinge ivory jewel knob
ledger mirror nugget orbit pebble quill raft sail torch urn vault wharf
"""

_TRAIN_VERBS = """
get load make build parse update create find add remove check compute count merge split sort
filter apply run start stop send handle process convert show render draw move clean reset init
validate collect gather select insert reverse normalize
"""

_HELD_OUT_VERBS = """
fetch store push pull scan walk visit emit notify resolve encode decode flatten expand shrink
rotate invert assign commit revert toggle trigger launch inspect measure
"""

_TRAIN_CLASSES = """
User Node Tree Graph Point Shape Circle Square Account Order Product Customer Server Client
Session Worker Handler Reader Writer Model Layer Table Row Column Matrix Vector Stack Heap Counter
Timer Player Game Board Piece Song Album Video Camera Sensor Signal Packet Frame Record Group
Message Request Response Page Link Image Pixel Color Buffer Stream Parser Loader Builder Manager
Runner Tester
"""

_HELD_OUT_CLASSES = """
Queue Cache Config Event Token Field Query Header Command Scope Context Symbol Block Task Planet
Comet Lantern Orchard Violin Garden Island Ladder Magnet Temple Valley Window Ferry Harbor Ledger
Mirror
"""

_TRAIN_STRINGS = """
hello world red green blue yellow apple banana cherry grape lemon mango peach dog cat bird fish
horse mouse house door table chair water fire earth wind sun moon star tree river lake sea hill
rock sand snow rain cloud storm night day morning evening summer winter spring north south east
west yes no ok failed success missing empty full open closed start stop begin end first last left
right up down small large big good bad new old hot cold fast slow name value key size path user
email list number total count not found invalid argument cannot read write connect is the a of in
to for with no such expected got unknown unable please enter your result answer done loading
saving running
"""

_HELD_OUT_STRINGS = """
purple orange silver golden plum olive melon walnut tiger eagle whale rabbit turtle spider castle
bridge tower market kitchen forest desert ocean canyon glacier thunder breeze autumn sunrise
midnight status config target source parent event command option header field item code type queue
broken locked hidden waiting maybe never always wooden metal paper stone glass quiet loud gentle
bright
"""

_TRAIN_MODULES = """
os sys re json math time random logging collections itertools functools pathlib datetime threading
subprocess argparse shutil typing socket copy csv hashlib io
"""

_HELD_OUT_MODULES = """
abc ast base64 bisect codecs contextlib decimal dis enum glob gzip heapq inspect locale mimetypes
operator pickletools platform pprint sqlite3 statistics struct tempfile textwrap types uuid
warnings weakref zipfile
"""

_TRAIN_LETTERS = "a b x y i j p q e h l"
_HELD_OUT_LETTERS = "c d m n s t u v k z"


def _unique(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split()))


def _functions(verbs: str, nouns: tuple[str, ...]) -> tuple[str, ...]:
    heads = _unique(verbs)
    return heads + tuple(f"{verb}_{noun}" for verb in heads for noun in nouns if "_" not in noun)


_NUMBERS = tuple(str(n) for n in (*range(21), 24, 25, 30, 32, 40, 50, 60, 64, 75, 80, 90, 99, 100))


def _pools(split: Split) -> dict[str, tuple[str, ...]]:
    train = split == "train"
    names = _unique(_TRAIN_NAMES if train else _HELD_OUT_NAMES)
    return {
        "v": names,
        "f": _functions(_TRAIN_VERBS if train else _HELD_OUT_VERBS, names),
        "C": _unique(_TRAIN_CLASSES if train else _HELD_OUT_CLASSES),
        "w": _unique(_TRAIN_STRINGS if train else _HELD_OUT_STRINGS),
        "m": _unique(_TRAIN_MODULES if train else _HELD_OUT_MODULES),
        "x": _unique(_TRAIN_LETTERS if train else _HELD_OUT_LETTERS),
        "n": _NUMBERS,
        "q": ("'", '"'),
    }


POOLS: dict[Split, dict[str, tuple[str, ...]]] = {split: _pools(split) for split in SPLITS}
"""Words by split and slot kind: v variable, f function, C class, w word in a string, m module,
x one-letter variable, n number, q quote character."""

SHARED_KINDS = frozenset("nq")
