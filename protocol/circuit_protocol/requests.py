"""Everything a client may ask: the union of all request types, one frozen tagged struct each.

Each is defined beside its replies in the module of its subject, and may be imported from here. The
tag (`type`) is its name in `docs/protocol.md`. Every request carries an `id` that is unique among
the client's unfinished requests; every reply repeats it. Requests that need no model (hello,
status, cancel, sessions, jobs, cache statistics) are answered at once by the front process; the
others wait their turn for a worker.
"""

from circuit_protocol.ablations import Ablate as Ablate
from circuit_protocol.ablations import AblateEdges as AblateEdges
from circuit_protocol.ablations import AblateHeads as AblateHeads
from circuit_protocol.ablations import AblateLayers as AblateLayers
from circuit_protocol.ablations import AblateNodes as AblateNodes
from circuit_protocol.ablations import AblateSites as AblateSites
from circuit_protocol.ablations import Ablation as Ablation
from circuit_protocol.ablations import Every as Every
from circuit_protocol.circuit_requests import CircuitRequest
from circuit_protocol.daemon import Cancel as Cancel
from circuit_protocol.daemon import Hello as Hello
from circuit_protocol.daemon import Shutdown as Shutdown
from circuit_protocol.daemon import Status as Status
from circuit_protocol.holding import CacheClear as CacheClear
from circuit_protocol.holding import CacheEvict as CacheEvict
from circuit_protocol.holding import CacheList as CacheList
from circuit_protocol.holding import CachePin as CachePin
from circuit_protocol.holding import CacheStats as CacheStats
from circuit_protocol.holding import Credit as Credit
from circuit_protocol.holding import Fetch as Fetch
from circuit_protocol.holding import MapTensor as MapTensor
from circuit_protocol.holding import Reduce as Reduce
from circuit_protocol.holding import Release as Release
from circuit_protocol.inspection import InspectionRequest
from circuit_protocol.jobs import CancelJob as CancelJob
from circuit_protocol.jobs import GetJob as GetJob
from circuit_protocol.jobs import ListJobs as ListJobs
from circuit_protocol.jobs import WatchJob as WatchJob
from circuit_protocol.messages import AblationKind as AblationKind
from circuit_protocol.messages import CacheKind as CacheKind
from circuit_protocol.messages import DTypeName as DTypeName
from circuit_protocol.messages import Edge as Edge
from circuit_protocol.messages import ModelRequest as ModelRequest
from circuit_protocol.messages import Name as Name
from circuit_protocol.messages import Prompts as Prompts
from circuit_protocol.messages import Request as Request
from circuit_protocol.messages import RequestId as RequestId
from circuit_protocol.messages import Split as Split
from circuit_protocol.models import DescribeModel as DescribeModel
from circuit_protocol.models import Detokenize as Detokenize
from circuit_protocol.models import ListModels as ListModels
from circuit_protocol.models import LoadModel as LoadModel
from circuit_protocol.models import PackModel as PackModel
from circuit_protocol.models import PinModel as PinModel
from circuit_protocol.models import ResidentModels as ResidentModels
from circuit_protocol.models import Tokenize as Tokenize
from circuit_protocol.models import UnloadModel as UnloadModel
from circuit_protocol.models import UnpackModel as UnpackModel
from circuit_protocol.passes import Forward as Forward
from circuit_protocol.passes import Generate as Generate
from circuit_protocol.passes import GradientOf as GradientOf
from circuit_protocol.passes import Hook as Hook
from circuit_protocol.passes import Record as Record
from circuit_protocol.passes import Variant as Variant
from circuit_protocol.session import AttachSession as AttachSession
from circuit_protocol.session import CloseSession as CloseSession
from circuit_protocol.session import GetSession as GetSession
from circuit_protocol.session import ListSessions as ListSessions
from circuit_protocol.session import UpdateSession as UpdateSession
from circuit_protocol.tasks import EvaluateTasks as EvaluateTasks
from circuit_protocol.tasks import Input as Input
from circuit_protocol.tasks import ListTasks as ListTasks
from circuit_protocol.tasks import PromptInput as PromptInput
from circuit_protocol.tasks import SampleTask as SampleTask
from circuit_protocol.tasks import ShowTask as ShowTask
from circuit_protocol.tasks import TaskInput as TaskInput

AnyRequest = (
    Hello
    | Status
    | Shutdown
    | Cancel
    | Credit
    | ListModels
    | DescribeModel
    | LoadModel
    | UnloadModel
    | PinModel
    | ResidentModels
    | PackModel
    | UnpackModel
    | Tokenize
    | Detokenize
    | ListTasks
    | ShowTask
    | SampleTask
    | EvaluateTasks
    | Forward
    | Generate
    | Hook
    | Ablate
    | Fetch
    | MapTensor
    | Reduce
    | Release
    | CacheStats
    | CacheList
    | CachePin
    | CacheEvict
    | CacheClear
    | ListSessions
    | GetSession
    | AttachSession
    | UpdateSession
    | CloseSession
    | ListJobs
    | GetJob
    | WatchJob
    | CancelJob
    | InspectionRequest
    | CircuitRequest
)
