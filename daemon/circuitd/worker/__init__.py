"""The worker: one process per device that keeps models resident and carries out requests on them.

`process` sets it up, `connection` talks to the front, `loop` decides whose step is next, `handlers`
do the work; everything between a request and the engine (prompts, interventions, results) has a
module of its own.
"""
