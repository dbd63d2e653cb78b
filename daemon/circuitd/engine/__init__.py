"""The network and what is computed on it. No sockets, no files: usable from a notebook."""
