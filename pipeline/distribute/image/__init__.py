"""OCI images, made from a released archive."""
