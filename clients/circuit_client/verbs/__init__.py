"""Every request of the protocol as a function from plain arguments to a `Call`; one module each."""
