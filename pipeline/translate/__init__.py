"""Translation: the RPython toolchain turns an interpreter's source into an executable."""
