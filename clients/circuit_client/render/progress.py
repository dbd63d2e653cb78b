"""One line that says how far a long request is."""

from circuit_client.render.table import bar, duration
from circuit_client.render.text_width import pad, truncate
from circuit_protocol.replies import Progress


def progress_line(progress: Progress, columns: int, *, ascii_only: bool = False) -> str:
    """Stage, bar, share, count, loss, nodes kept and time left, as far as known, in `columns`."""
    parts = [progress.stage]
    if progress.total:
        share = min(1.0, max(0.0, progress.done / progress.total))
        filled = pad(bar(share, 1.0, 20, ascii_only=ascii_only), 20)
        parts.append(f"[{filled}] {share:4.0%}")
        if progress.total > 1 and progress.unit != "%":  # else the share has said it
            parts.append(f"{int(progress.done):,}/{progress.total:,g} {progress.unit}".rstrip())
    elif progress.done:
        parts.append(f"{progress.done:g} {progress.unit}".rstrip())
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.k is not None:
        parts.append(f"k {progress.k:,}")
    if progress.eta_s is not None:
        parts.append(f"{duration(progress.eta_s)} left")
    return truncate("  ".join(parts), columns)
