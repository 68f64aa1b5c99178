"""Builds of a candidate that parse less: the same sources, flags and compilers, fewer headers.

``shim`` makes headers that stand for torch's, ``preparation`` checks them against torch's and
precompiles them once per installation, ``reading`` tells what a unit needs of them, ``stages``
takes nvcc's own steps apart so that they run side by side, and ``plan`` writes the build.

Does not: decide what a failed build means; the stock build has the last word.
"""
