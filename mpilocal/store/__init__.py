"""What a run leaves on disk and is resumed from: the run directory, its history, iterates, checkpoints and config.toml.

`rundir` is the directory and its lock; `record` is history.h5 and `iterates` iterates.h5; `checkpoint` writes and reads
the state, whose layout in the file is `snapshot`'s and whose way between ranks is `transfer`'s; `inplace` reads and
writes pieces of open HDF5 files; `provenance` is who ran what, where, when.
"""
