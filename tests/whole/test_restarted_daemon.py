"""A daemon that is killed and started again at once serves as if it had been the first."""

from circuit_client import connect
from whole.running import RunningDaemon


def test_a_daemon_killed_as_its_worker_starts_is_followed_by_one_that_computes() -> None:
    own = RunningDaemon()
    try:
        # It has announced itself; its worker still imports torch and would outlive it by seconds.
        own.process.kill()
        own.process.wait()
        own.start()
        with connect(own.address("ipc").endpoint) as c:
            answer = c.forward("csd-py-sparse", text="print('a", deadline_s=120)
            assert answer.tokens.shape[0] == 1
    finally:
        own.close()
