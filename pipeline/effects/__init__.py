"""The ports through which the pipeline reaches the outside; everything else is computation."""
