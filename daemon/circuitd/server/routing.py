"""Who answers which request: the front at once, or a worker, with or without a resident model."""

from typing import Final, Literal

from circuit_protocol import circuit_requests as cq
from circuit_protocol import inspection as i
from circuit_protocol import requests as r

#: "front": answered here. "model": a worker that has the model resident. "worker": any worker.
Route = Literal["front", "model", "worker"]

ROUTES: Final[dict[type[r.Request], Route]] = {
    r.Hello: "front",
    r.Status: "front",
    r.Shutdown: "front",
    r.Cancel: "front",
    r.Credit: "front",
    r.ListModels: "front",
    r.DescribeModel: "worker",
    r.LoadModel: "front",
    r.UnloadModel: "front",
    r.PinModel: "front",
    r.ResidentModels: "front",
    r.PackModel: "worker",
    r.UnpackModel: "worker",
    r.Tokenize: "model",
    r.Detokenize: "model",
    r.ListTasks: "front",
    r.ShowTask: "worker",
    r.SampleTask: "model",
    r.EvaluateTasks: "model",
    r.Forward: "model",
    r.Generate: "model",
    r.Hook: "model",
    r.Ablate: "model",
    r.Fetch: "front",
    r.MapTensor: "front",
    r.Reduce: "worker",
    r.Release: "front",
    r.CacheStats: "front",
    r.CacheList: "front",
    r.CachePin: "front",
    r.CacheEvict: "front",
    r.CacheClear: "front",
    r.ListSessions: "front",
    r.GetSession: "front",
    r.AttachSession: "front",
    r.UpdateSession: "front",
    r.CloseSession: "front",
    r.ListJobs: "front",
    r.GetJob: "front",
    r.WatchJob: "front",
    r.CancelJob: "front",
    i.EmbeddingColumn: "model",
    i.TrainingCurves: "front",
    cq.Prune: "model",
    cq.Verify: "model",
    cq.ListCircuits: "front",
    cq.ShowCircuit: "front",
    cq.DeleteCircuit: "front",
    cq.DiffCircuits: "front",
    cq.MeasureCircuit: "model",
    cq.EditCircuit: "model",
    cq.CombineCircuits: "model",
    cq.NodeSamples: "model",
    cq.ImportCircuit: "model",
    cq.ExportCircuit: "model",
}

#: Requests whose answer is a function of model, question and frames, and says `cached`. None about
#: circuits is one: they store, or read what is stored under names that may come to mean another.
CACHEABLE: Final = (r.Forward, r.Hook, r.Ablate, r.EvaluateTasks)
