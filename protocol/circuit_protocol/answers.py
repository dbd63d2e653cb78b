"""Which replies a request may get: its partial ones, and the one that ends it.

Beside these, every request may end in `error`, every request that runs on a model may report
`progress`, and with `detach` its final reply is `job.accepted`.
"""

from typing import Final, NamedTuple

from circuit_protocol import circuit_replies as cr
from circuit_protocol import circuit_requests as cq
from circuit_protocol import inspection as i
from circuit_protocol import replies as r
from circuit_protocol import requests as q


class Answer(NamedTuple):
    """Reply types of a request. `final` is None for credit, which has no reply, and for jobs.watch,
    which ends in the reply of the job's own request.
    """

    final: type[r.Reply] | None
    partial: type[r.Reply] | None = None


ANSWERS: Final[dict[type[q.Request], Answer]] = {
    q.Hello: Answer(r.Welcome),
    q.Status: Answer(r.StatusReport),
    q.Shutdown: Answer(r.Done),
    q.Cancel: Answer(r.Done),
    q.Credit: Answer(None),
    q.ListModels: Answer(r.ModelList),
    q.DescribeModel: Answer(r.ModelDescription),
    q.LoadModel: Answer(r.ResidentReport),
    q.UnloadModel: Answer(r.Done),
    q.PinModel: Answer(r.Done),
    q.ResidentModels: Answer(r.ResidentReport),
    q.PackModel: Answer(r.ModelConverted),
    q.UnpackModel: Answer(r.ModelConverted),
    q.Tokenize: Answer(r.Tokens),
    q.Detokenize: Answer(r.Texts),
    q.ListTasks: Answer(r.TaskList),
    q.ShowTask: Answer(r.TaskShown),
    q.SampleTask: Answer(r.TaskSample),
    q.EvaluateTasks: Answer(r.TaskScores, partial=r.TaskScores),
    q.Forward: Answer(r.ForwardResult),
    q.Generate: Answer(r.GenerateResult, partial=r.GenerateStep),
    q.Hook: Answer(r.HookResult),
    q.Ablate: Answer(r.AblateResult, partial=r.AblatePart),
    q.Fetch: Answer(r.Chunk, partial=r.Chunk),
    q.MapTensor: Answer(r.Mapped),
    q.Reduce: Answer(r.Reduced),
    q.Release: Answer(r.Done),
    q.CacheStats: Answer(r.CacheReport),
    q.CacheList: Answer(r.CacheEntries),
    q.CachePin: Answer(r.Done),
    q.CacheEvict: Answer(r.CacheFreed),
    q.CacheClear: Answer(r.CacheFreed),
    q.ListSessions: Answer(r.SessionList),
    q.GetSession: Answer(r.SessionEvent),
    q.AttachSession: Answer(r.SessionEvent, partial=r.SessionEvent),
    q.UpdateSession: Answer(r.SessionEvent),
    q.CloseSession: Answer(r.Done),
    q.ListJobs: Answer(r.JobList),
    q.GetJob: Answer(r.JobList),
    q.WatchJob: Answer(None, partial=r.Progress),
    q.CancelJob: Answer(r.Done),
    i.EmbeddingColumn: Answer(i.EmbeddingColumnShown),
    i.TrainingCurves: Answer(i.TrainingCurvesShown),
    cq.Prune: Answer(cr.PruneResult, partial=cr.PrunePart),
    cq.Verify: Answer(cr.VerifyResult, partial=cr.VerifyPart),
    cq.ListCircuits: Answer(cr.CircuitList),
    cq.ShowCircuit: Answer(cr.CircuitShown),
    cq.DeleteCircuit: Answer(r.Done),
    cq.DiffCircuits: Answer(cr.CircuitDiff),
    cq.MeasureCircuit: Answer(cr.CircuitShown),
    cq.EditCircuit: Answer(cr.CircuitDerived),
    cq.CombineCircuits: Answer(cr.CircuitDerived),
    cq.NodeSamples: Answer(cr.NodeSampled),
    cq.ImportCircuit: Answer(cr.CircuitShown),
    cq.ExportCircuit: Answer(cr.CircuitExported),
}
