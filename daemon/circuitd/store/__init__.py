"""Files the daemon reads and keeps: artefacts, tokenizers, cached results, job records."""
