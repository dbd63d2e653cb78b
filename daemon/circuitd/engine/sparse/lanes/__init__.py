"""The gated network, forward and backward, on blocks of lanes: whole sequences side by side."""
