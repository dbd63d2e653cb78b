"""The language server for models: what a resident model sees, where the text is.

`circuit lsp` runs it. Editors speak LSP to it, richer clients also the requests of `messages`
(docs/lsp.md); it is one client of the daemon, and knows nothing of torch.
"""
