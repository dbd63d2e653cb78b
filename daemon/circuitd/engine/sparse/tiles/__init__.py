"""The general forward pass on tiles: sixteen tokens side by side, [channels, 16]."""
