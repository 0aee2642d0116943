"""Verification: gates on the final archives' bytes. What passes here is what is released."""
