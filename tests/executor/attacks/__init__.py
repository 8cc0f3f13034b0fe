"""What a build might try, to be run inside the sandbox: Python of the toolchain, nothing but its standard library.

Each module is a theme, each function of it an attack that makes attempts (`attempt.py`); tests/executor/attacking.py
runs them and sees how each attempt ended.
"""
