"""The patched llama.cpp: fetched by hash, patched, built once into a cache, found again, and used.

======================  =========================================================================
``cache``               where everything lives, and the lock that keeps two builds apart
``pin``                 what ``patches/`` says: the pinned source and the series over it
``fetch``               the pinned source tree, through pip and its hash check
``git``, ``patch``      patches into a tree, a tree back into patches, and the proof that both agree
``toolchain``           cmake, ninja and a C++ compiler, or the package that provides them
``build``               the pinned and patched tree as shared libraries and programs
``locate``              the build that matches these patches
``library``, ``api``    ``llama_cpp`` on that build; our own C functions
``programs``            upstream's programs from that build
======================  =========================================================================
"""
