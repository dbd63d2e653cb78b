"""`python -m circuit_client` is the command line `circuit`."""

from circuit_client.cli import main

main()
