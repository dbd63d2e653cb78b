"""What answers the requests of our own: one function for each method of `messages.METHODS`."""
