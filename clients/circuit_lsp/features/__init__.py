"""What LSP itself has words for: one module for each kind of thing an editor may ask."""
