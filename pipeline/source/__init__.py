"""Source: which revision is meant, and one tar file of everything that its translation needs."""
