"""Binary tasks on Python source: generators, user files, tokenised batches, scores."""
