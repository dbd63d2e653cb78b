"""The Python client of circuitd: `connect()` and its asynchronous twin."""
