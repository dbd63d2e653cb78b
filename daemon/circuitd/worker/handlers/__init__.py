"""The handlers: one module per kind of request, and the table that says who serves what."""

from __future__ import annotations

from circuit_protocol import circuit_requests, inspection, requests
from circuitd.worker.handlers import (
    ablate,
    circuits,
    convert,
    describe,
    embedding,
    evaluate,
    exchange,
    forward,
    generate,
    hook,
    prune,
    reduce,
    samples,
    tasks,
    text,
    verify,
)
from circuitd.worker.registry import Registry


def all_handlers() -> Registry:
    """Every request type that a worker serves."""
    return Registry(
        {
            requests.DescribeModel: describe.run,
            requests.PackModel: convert.run,
            requests.UnpackModel: convert.run,
            requests.Tokenize: text.tokenize,
            requests.Detokenize: text.detokenize,
            requests.ShowTask: tasks.show,
            requests.SampleTask: tasks.sample,
            requests.EvaluateTasks: evaluate.run,
            requests.Generate: generate.run,
            requests.Hook: hook.run,
            requests.Ablate: ablate.run,
            requests.Reduce: reduce.run,
            inspection.EmbeddingColumn: embedding.run,
            circuit_requests.Prune: prune.run,
            circuit_requests.Verify: verify.run,
            circuit_requests.MeasureCircuit: circuits.measure,
            circuit_requests.EditCircuit: circuits.edit,
            circuit_requests.CombineCircuits: circuits.combine,
            circuit_requests.NodeSamples: samples.run,
            circuit_requests.ImportCircuit: exchange.import_,
            circuit_requests.ExportCircuit: exchange.export,
        },
        batched={requests.Forward: forward.run},
    )
