"""Kernels on the CPU: `dense` and `sparse` have the same names and arguments; `exact` and `vector` serve both."""
