"""Publication: files, then the ledger event that makes them a release, then the indexes."""
