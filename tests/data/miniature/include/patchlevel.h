#define PY_VERSION "1.0.0"
#define PYPY_VERSION "1.0.0"
