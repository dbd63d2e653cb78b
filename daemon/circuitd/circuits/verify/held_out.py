"""Held out: whether the circuit does the task at all, and on templates it was not fitted to."""

from __future__ import annotations

from circuit_protocol.circuits import Control, Measurement
from circuitd.circuits.verify.bootstrap import bounds
from circuitd.circuits.verify.thresholds import (
    CHANCE,
    LEAST_GAIN,
    RETAINED,
    TARGET_SLACK,
    at_least,
)
from circuitd.circuits.verify.trial import Controlling, Trial


def held_out(trial: Trial) -> Controlling:
    """Loss and accuracy of circuit and whole model on training and held-out pairs, to the target.

    Fails a circuit that misses its target, one that does what the whole model does not do, and one
    that loses on held-out pairs more of the model's gain over chance than it keeps.
    """
    train = yield from trial.circuit("train")
    unseen = yield from trial.circuit("held_out")
    whole_train = yield from trial.whole("train")
    whole_unseen = yield from trial.whole("held_out")
    bootstrap = trial.bootstrap
    loss = bootstrap.loss("training loss", train)
    whole = bootstrap.loss("whole model, training loss", whole_train)
    share = bootstrap.retained("retained on held-out pairs", whole_unseen, unseen)
    measurements = [
        loss,
        bootstrap.loss("held-out loss", unseen),
        bootstrap.accuracy("training accuracy", train),
        bootstrap.accuracy("held-out accuracy", unseen),
        whole,
        bootstrap.loss("whole model, held-out loss", whole_unseen),
        bootstrap.accuracy("whole model, held-out accuracy", whole_unseen),
        bootstrap.retained("retained on training pairs", whole_train, train),
        share,
    ]
    passed = at_least(*bounds(share), RETAINED)
    verdict = {
        True: "it keeps the task on templates it was not fitted to",
        False: "it does not keep the task on templates it was not fitted to",
        None: "these pairs do not tell whether it keeps the task there",
    }[passed]
    if whole_unseen.loss > CHANCE - LEAST_GAIN:
        passed = None
        verdict = "the whole model does not do the held-out task, so nothing can be said about it"
    limit = yield from trial.limit()
    if trial.target_loss is not None:
        measurements.append(Measurement(name="target loss", value=trial.target_loss))
        if bounds(loss)[0] > TARGET_SLACK * trial.target_loss:
            passed, verdict = False, f"it misses its target of {trial.target_loss:g}"
    if train.loss > CHANCE - LEAST_GAIN:
        passed, verdict = False, "it does not do the task"
    if whole_train.loss > CHANCE - LEAST_GAIN:
        passed, verdict = False, "the whole model does not do the task, so no part of it can"
    elif bounds(whole)[0] > TARGET_SLACK * limit:
        passed, verdict = False, "it does better than the model that it is to explain"
    return Control(
        name="held_out",
        passed=passed,
        sentence=f"The circuit's loss is {train.loss:.3f} on training pairs and {unseen.loss:.3f} "
        f"on held-out ones (accuracy {train.accuracy:.3f} and {unseen.accuracy:.3f}); the whole "
        f"model's {whole_train.loss:.3f} and {whole_unseen.loss:.3f}: {verdict}.",
        measurements=tuple(measurements),
    )
