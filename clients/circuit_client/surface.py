"""The verbs as methods: `c.forward(...)` waits, `.start(...)` does not, `.detach(...)` makes a job.

Each verb is a function that returns a `Call` (package `verbs`). The descriptors here give it to a
connection with its whole signature, so that editors and type checkers see every argument.
`surface_aio` is the same for coroutines; a test keeps the two equal.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from circuit_client.call import Call
from circuit_client.verbs import (
    cache,
    circuit_files,
    circuits,
    daemon,
    jobs,
    models,
    sessions,
    tasks,
    tensors,
)
from circuit_client.verbs.ablate import ablate as ablate_call
from circuit_client.verbs.attention import attention as attention_call
from circuit_client.verbs.forward import forward as forward_call
from circuit_client.verbs.generate import generate as generate_call
from circuit_client.verbs.hook import hook as hook_call
from circuit_client.verbs.prune import prune as prune_call
from circuit_client.verbs.verify import verify as verify_call

if TYPE_CHECKING:
    from circuit_client.sync import Connection, Job, Stream

P = ParamSpec("P")
E = TypeVar("E")
R = TypeVar("R")


class _Bound(Generic[P, E, R]):
    """A verb of one connection."""

    def __init__(self, connection: "Connection", build: Callable[P, Call[E, R]]) -> None:
        self._connection = connection
        self.__wrapped__ = build  # inspect.signature and help() look here
        self.__doc__ = build.__doc__

    def start(self, *args: P.args, **kwargs: P.kwargs) -> "Stream[E, R]":
        """Send without waiting: iterate over its progress, take its `result()` later.

        Arrays given as arguments must not be changed before the answer is there.
        """
        return self._connection.submit(self.__wrapped__(*args, **kwargs))

    def detach(self, *args: P.args, **kwargs: P.kwargs) -> "Job[E, R]":
        """Run as a job, which survives this client and the daemon (requests on a model only)."""
        return self._connection.detach(self.__wrapped__(*args, **kwargs))


class BoundVerb(_Bound[P, E, R]):
    """Called, it waits for the result."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask and wait for the answer."""
        return self._connection.run(self.__wrapped__(*args, **kwargs))


class BoundStream(_Bound[P, E, R]):
    """Called, it gives the stream of events."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> "Stream[E, R]":
        """Ask, and iterate over what comes."""
        return self._connection.submit(self.__wrapped__(*args, **kwargs))


class Namespace:
    """Some verbs of one connection."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection


class verb(Generic[P, E, R]):  # noqa: N801  # stands where a function would
    """A verb whose call waits for the result."""

    def __init__(self, build: Callable[P, Call[E, R]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> "verb[P, E, R]": ...
    @overload
    def __get__(self, owner: Namespace, kind: type) -> BoundVerb[P, E, R]: ...
    def __get__(self, owner: Namespace | None, kind: type) -> Any:
        return self if owner is None else BoundVerb(owner._connection, self._build)


class stream(Generic[P, E, R]):  # noqa: N801
    """A verb whose call gives a stream."""

    def __init__(self, build: Callable[P, Call[E, R]]) -> None:
        self._build = build
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> "stream[P, E, R]": ...
    @overload
    def __get__(self, owner: Namespace, kind: type) -> BoundStream[P, E, R]: ...
    def __get__(self, owner: Namespace | None, kind: type) -> Any:
        return self if owner is None else BoundStream(owner._connection, self._build)


class Models(Namespace):
    """What models there are and which are resident."""

    list = verb(models.list_models)
    describe = verb(models.describe)
    embedding = verb(models.embedding)
    training = verb(models.training)
    load = verb(models.load)
    unload = verb(models.unload)
    pin = verb(models.pin)
    ps = verb(models.ps)
    pack = verb(models.pack)
    unpack = verb(models.unpack)


class Tasks(Namespace):
    """Tasks: pairs of prompts that differ in what must come next."""

    list = verb(tasks.list_tasks)
    show = verb(tasks.show)
    sample = verb(tasks.sample)
    evaluate = verb(tasks.evaluate)


class Circuits(Namespace):
    """Circuits that were found, made or brought along."""

    list = verb(circuits.list_circuits)
    show = verb(circuits.show)
    delete = verb(circuits.delete)
    diff = verb(circuits.diff)
    measure = verb(circuits.measure)
    edit = verb(circuits.edit)
    union = verb(circuits.union)
    intersection = verb(circuits.intersection)
    samples = verb(circuits.samples)
    attention = verb(attention_call)
    import_file = verb(circuit_files.import_file)
    import_circuit = verb(circuit_files.import_circuit)
    export_viz_data = verb(circuit_files.export_viz_data)


class Tensors(Namespace):
    """Tensors the daemon holds for this connection."""

    fetch = verb(tensors.fetch)
    slice = verb(tensors.slice_of)
    top_k = verb(tensors.top_k)
    norm = verb(tensors.norm)
    mean = verb(tensors.mean)
    quantiles = verb(tensors.quantiles)
    project = verb(tensors.project)


class Cache(Namespace):
    """What the daemon remembers."""

    stats = verb(cache.stats)
    list = verb(cache.list_entries)
    pin = verb(cache.pin)
    evict = verb(cache.evict)
    clear = verb(cache.clear)


class Sessions(Namespace):
    """Looks at a model that several clients share."""

    list = verb(sessions.list_sessions)
    get = verb(sessions.get)
    attach = stream(sessions.attach)
    update = verb(sessions.update)
    close = verb(sessions.close)


class Jobs(Namespace):
    """Work that survives clients and daemons."""

    list = verb(jobs.list_jobs)
    get = verb(jobs.get)
    watch = stream(jobs.watch)
    cancel = verb(jobs.cancel)


class Verbs(Namespace):
    """Everything a connection can be asked."""

    hello = verb(daemon.hello)
    status = verb(daemon.status)
    shutdown = verb(daemon.shutdown)
    tokenize = verb(models.tokenize)
    detokenize = verb(models.detokenize)
    forward = verb(forward_call)
    generate = stream(generate_call)
    hook = verb(hook_call)
    ablate = verb(ablate_call)
    prune = verb(prune_call)
    verify = verb(verify_call)

    def __init__(self, connection: "Connection") -> None:
        super().__init__(connection)
        self.models = Models(connection)
        self.tasks = Tasks(connection)
        self.circuits = Circuits(connection)
        self.tensors = Tensors(connection)
        self.cache = Cache(connection)
        self.sessions = Sessions(connection)
        self.jobs = Jobs(connection)
