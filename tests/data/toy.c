/* The smallest dynamic executable that is still an ordinary one; see README.md. */
extern int puts(const char *);
extern void _exit(int);

void _start(void) {
  puts("toy 1.2.3");
  _exit(0);
}
