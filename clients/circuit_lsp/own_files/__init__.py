"""The project's own files in an editor: tasks, and names of the protocol wherever they stand."""
