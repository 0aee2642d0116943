/* A C extension module for Python 2.7 and 3: extension.add(a, b). */
#include <Python.h>

static PyObject *add(PyObject *self, PyObject *args)
{
    long a, b;
    if (!PyArg_ParseTuple(args, "ll", &a, &b))
        return NULL;
    return PyLong_FromLong(a + b);
}

static PyMethodDef methods[] = {{"add", add, METH_VARARGS, "Add two numbers."}, {NULL}};

#if PY_MAJOR_VERSION >= 3
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "extension", NULL, -1, methods};

PyMODINIT_FUNC PyInit_extension(void)
{
    return PyModule_Create(&definition);
}
#else
PyMODINIT_FUNC initextension(void)
{
    Py_InitModule("extension", methods);
}
#endif
