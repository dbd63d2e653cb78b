"""The front process: sockets, queues, residency, sessions, jobs. No torch, nothing that blocks."""
