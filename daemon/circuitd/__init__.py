"""circuitd: a resident daemon that answers questions about circuits inside transformers."""

__version__ = "0.1.0"
