"""What a run does: TOML, checked and turned into frozen structs."""

from mpilocal.config.structs import Config
from mpilocal.config.toml import check, convert, dump, load, override, read

__all__ = ["Config", "check", "convert", "dump", "load", "override", "read"]
