"""`prune`: find the circuits of tasks."""

from collections.abc import Sequence
from typing import Unpack

from circuit_client.call import Call, Received, whole
from circuit_client.verbs.options import ModelOptions, sort_options
from circuit_protocol.circuit_replies import PrunePart, PruneResult
from circuit_protocol.circuit_requests import Prune
from circuit_protocol.circuits import Method, PruneSettings
from circuit_protocol.replies import Progress
from circuit_protocol.requests import AblationKind


def prune(
    model: str | None = None,
    *,
    tasks: str | Sequence[str],
    target_losses: float | Sequence[float] = (),
    ks: int | Sequence[int] = (),
    seeds: int | Sequence[int] = 0,
    method: Method = "learned",
    ablation: AblationKind = "mean",
    settings: PruneSettings | None = None,
    search: int = 0,
    sweep: str | None = None,
    save: bool = True,
    n_pairs: int = 256,
    n_held_out_pairs: int = 256,
    data_seed: int = 0,
    **options: Unpack[ModelOptions],
) -> Call[Progress | PrunePart, PruneResult]:
    """Find circuits: each task with each seed, for each target loss and each k.

    Losses are means per side in nats; without a target or a k, the target is 0.15. `method` other
    than "learned" is a ranking to compare with. `search` tries that many settings around
    `settings`. The circuits are stored under `sweep`; with `save=False` they come along in
    `result.found` instead. A stream's events are progress reports (loss, k, time left) and
    PruneParts with the circuits found since the last one.
    """
    fields, progress = sort_options(model, options)
    request = Prune(
        tasks=(tasks,) if isinstance(tasks, str) else tuple(tasks),
        target_losses=tuple(float(x) for x in _listed(target_losses)),
        ks=tuple(int(k) for k in _listed(ks)),
        seeds=tuple(int(s) for s in _listed(seeds)),
        method=method,
        ablation=ablation,
        settings=PruneSettings() if settings is None else settings,
        search=search,
        sweep=sweep,
        save=save,
        n_pairs=n_pairs,
        n_held_out_pairs=n_held_out_pairs,
        data_seed=data_seed,
        **fields,
    )

    def read_event(received: Received) -> Progress | PrunePart | None:
        reply = received.reply
        return reply if isinstance(reply, Progress | PrunePart) else None

    return Call(request, whole(PruneResult), read_event, resend=not save, progress=progress)


def _listed(given: float | Sequence[float]) -> Sequence[float]:
    return (given,) if isinstance(given, float | int) else given
