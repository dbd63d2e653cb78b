"""Everything the daemon may answer: the union of all reply types, one frozen tagged struct each.

Each is defined beside its request in the module of its subject, and may be imported from here.
Every reply repeats its request's `id` and carries `seq` (0, 1, 2, … within that request) and
`final`. A request ends in exactly one final reply, also when it failed or was cancelled; replies
before it are progress, partial results or events.
"""

from circuit_protocol.ablations import AblatedThing as AblatedThing
from circuit_protocol.ablations import AblatePart as AblatePart
from circuit_protocol.ablations import AblateResult as AblateResult
from circuit_protocol.circuit_replies import CircuitReply
from circuit_protocol.daemon import Done as Done
from circuit_protocol.daemon import Failed as Failed
from circuit_protocol.daemon import Limits as Limits
from circuit_protocol.daemon import ProcessInfo as ProcessInfo
from circuit_protocol.daemon import Progress as Progress
from circuit_protocol.daemon import StatusReport as StatusReport
from circuit_protocol.daemon import Welcome as Welcome
from circuit_protocol.holding import CacheEntries as CacheEntries
from circuit_protocol.holding import CacheEntry as CacheEntry
from circuit_protocol.holding import CacheFreed as CacheFreed
from circuit_protocol.holding import CacheKindStats as CacheKindStats
from circuit_protocol.holding import CacheReport as CacheReport
from circuit_protocol.holding import Chunk as Chunk
from circuit_protocol.holding import Mapped as Mapped
from circuit_protocol.holding import Reduced as Reduced
from circuit_protocol.inspection import InspectionReply
from circuit_protocol.jobs import JobAccepted as JobAccepted
from circuit_protocol.jobs import JobInfo as JobInfo
from circuit_protocol.jobs import JobList as JobList
from circuit_protocol.messages import Reply as Reply
from circuit_protocol.models import MatrixInfo as MatrixInfo
from circuit_protocol.models import ModelConverted as ModelConverted
from circuit_protocol.models import ModelDescription as ModelDescription
from circuit_protocol.models import ModelList as ModelList
from circuit_protocol.models import ModelSummary as ModelSummary
from circuit_protocol.models import Resident as Resident
from circuit_protocol.models import ResidentReport as ResidentReport
from circuit_protocol.models import SiteInfo as SiteInfo
from circuit_protocol.models import TextPiece as TextPiece
from circuit_protocol.models import Texts as Texts
from circuit_protocol.models import TokenInfo as TokenInfo
from circuit_protocol.models import Tokens as Tokens
from circuit_protocol.passes import Change as Change
from circuit_protocol.passes import ForwardResult as ForwardResult
from circuit_protocol.passes import GenerateResult as GenerateResult
from circuit_protocol.passes import GenerateStep as GenerateStep
from circuit_protocol.passes import HookResult as HookResult
from circuit_protocol.passes import Recorded as Recorded
from circuit_protocol.passes import TopK as TopK
from circuit_protocol.session import SessionEvent as SessionEvent
from circuit_protocol.session import SessionList as SessionList
from circuit_protocol.tasks import PairText as PairText
from circuit_protocol.tasks import TaskList as TaskList
from circuit_protocol.tasks import TaskSample as TaskSample
from circuit_protocol.tasks import TaskScore as TaskScore
from circuit_protocol.tasks import TaskScores as TaskScores
from circuit_protocol.tasks import TaskShown as TaskShown
from circuit_protocol.tasks import TaskSummary as TaskSummary

AnyReply = (
    Failed
    | Done
    | Progress
    | JobAccepted
    | Welcome
    | StatusReport
    | ResidentReport
    | ModelList
    | ModelDescription
    | ModelConverted
    | Tokens
    | Texts
    | TaskList
    | TaskShown
    | TaskSample
    | TaskScores
    | ForwardResult
    | HookResult
    | GenerateStep
    | GenerateResult
    | AblatePart
    | AblateResult
    | Chunk
    | Mapped
    | Reduced
    | CacheReport
    | CacheEntries
    | CacheFreed
    | SessionList
    | SessionEvent
    | JobList
    | InspectionReply
    | CircuitReply
)
