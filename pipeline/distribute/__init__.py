"""What is made of a verified archive for the clients that take no archive: packages, images."""
