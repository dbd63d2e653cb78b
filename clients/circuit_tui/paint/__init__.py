"""What things look like: colours at every depth, signs beside them, token text made safe."""
