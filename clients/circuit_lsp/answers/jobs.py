"""Answers about jobs: started from here or elsewhere, followed, cancelled."""

import msgspec

from circuit_client.verbs.prune import prune as prune_call
from circuit_client.verbs.verify import verify as verify_call
from circuit_lsp.following import job_message
from circuit_lsp.messages.daemon import (
    Changed,
    JobInfo,
    JobList,
    JobParams,
    ListParams,
    PruneParams,
    VerifyParams,
)
from circuit_lsp.workbench import Workbench
from circuit_protocol.circuits import PruneSettings, VerifySettings
from circuit_protocol.errors import InvalidRequest


async def list_jobs(bench: Workbench, params: ListParams) -> JobList:
    """Jobs as their records say, and the unfinished ones as they were heard of last."""
    jobs = await bench.link.connection.jobs.list(limit=params.limit)
    for job in jobs:
        bench.jobs.follow(job)
    return JobList(jobs=tuple(bench.jobs.latest(job.job) or job_message(job) for job in jobs))


async def cancel(bench: Workbench, params: JobParams) -> Changed:
    """End a job within one step."""
    return Changed(changed=await bench.link.connection.jobs.cancel(params.job))


async def prune(bench: Workbench, params: PruneParams) -> JobInfo:
    """Find a circuit, as a job."""
    model = await bench.facts.model(params.model or bench.look().model)
    call = prune_call(
        model.name,
        tasks=params.task,
        target_losses=() if params.target_loss is None else params.target_loss,
        ks=() if params.k is None else params.k,
        seeds=params.seed,
        method=params.method,
        ablation=params.ablation,
        settings=PruneSettings(n_steps=params.n_steps),
    )
    return await bench.jobs.start(call)


async def verify(bench: Workbench, params: VerifyParams) -> JobInfo:
    """Put a circuit to its controls, as a job."""
    facts = await bench.facts.circuit(params.circuit, params.model)
    try:
        settings = VerifySettings(controls=params.controls)  # pyright: ignore[reportArgumentType]
        settings = msgspec.convert(msgspec.to_builtins(settings), VerifySettings)
    except msgspec.ValidationError as e:
        raise InvalidRequest(
            "this is no control", asked=", ".join(params.controls), found=str(e)
        ) from None
    return await bench.jobs.start(
        verify_call(facts.name, facts.shown.circuit.model, settings=settings)
    )


ANSWERS = {
    "circuit/jobs/list": list_jobs,
    "circuit/jobs/cancel": cancel,
    "circuit/jobs/prune": prune,
    "circuit/jobs/verify": verify,
}
