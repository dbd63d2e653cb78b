"""The front process: sockets, sessions, scheduling, residency, jobs. No torch, nothing that blocks."""
