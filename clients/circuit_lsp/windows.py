"""Which stretches of a long text the model reads, so that tokens near the cursor have context.

The model sees a block of tokens at a time. A text that fits is read at once. A longer one is read
in blocks that overlap by half: what is scored in a block (but for one at the text's beginning) has
at least half a block before it.
"""

from dataclasses import dataclass
from typing import Final

#: Blocks that are read for one answer: a screen or two of text.
MAX_BLOCKS: Final = 4
#: Characters that a token has at most on average, to cut a text before it is tokenized. Where they
#: have more, fewer blocks are read.
_CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Block:
    """Tokens `start` to `stop` are read together, those from `scored` on count."""

    start: int
    stop: int
    scored: int


def blocks_around(n_tokens: int, focus: int, block_size: int) -> tuple[Block, ...]:
    """The blocks that cover the tokens around token `focus`, in order and without gaps."""
    if n_tokens <= block_size:
        return (Block(0, n_tokens, 0),) if n_tokens else ()
    step = max(1, block_size // 2)
    covered = block_size + (MAX_BLOCKS - 1) * step
    wanted = max(0, min(focus - covered // 2, n_tokens - covered))
    # Begin at a multiple of the step, so that moving the cursor a little reads the same blocks.
    first = wanted - wanted % step
    until = min(n_tokens, wanted + covered)
    blocks: list[Block] = []
    while not blocks or blocks[-1].stop < until:
        start = first + len(blocks) * step
        scored = blocks[-1].stop if blocks else (0 if first == 0 else first + step)
        blocks.append(Block(start, min(start + block_size, n_tokens), scored))
    return tuple(blocks)


def cut_around(text: str, line_starts: list[int], focus: int, block_size: int) -> tuple[int, int]:
    """The part of `text` to tokenize: enough around `focus` for all blocks, whole lines if it can.

    A text that is not much longer is taken whole.
    """
    reach = _CHARACTERS_PER_TOKEN * block_size * MAX_BLOCKS
    if len(text) <= 2 * reach:
        return 0, len(text)
    low, high = max(0, focus - reach), min(len(text), focus + reach)
    before = [start for start in line_starts if low <= start <= max(low, focus - reach // 2)]
    after = [start for start in line_starts if focus + reach // 2 <= start <= high]
    return (before[0] if before and low else low), (after[-1] if after else high)
