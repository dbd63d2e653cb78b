"""What views show, as values: rows and cells made of what the daemon said. No I/O, no Textual."""
