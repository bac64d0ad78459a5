"""mpilocal data: convert a data set to HDF5, look at one, make a synthetic one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mpilocal.cli import output
from mpilocal.cli import parser as parsing

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

CONVERT = """\
examples:
  mpilocal data convert w8a.gz w8a.h5
  mpiexec -n 8 mpilocal data convert url_combined url.h5 --dtype float32
  mpilocal data convert train-images-idx3-ubyte.gz mnist.h5 --components 100"""
INFO = """\
examples:
  mpilocal data info w8a.h5
  mpilocal data info sklearn:digits --json"""
MAKE = """\
example:
  mpilocal data make regression toy.h5 -s rows=10000 -s features=50 -s seed=1"""


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    verb = verbs.add_parser(
        "data",
        help="convert, inspect or make data",
        description="Data sets: LIBSVM text (plain, .gz, .bz2, .xz), HDF5, .npz, IDX and CIFAR-10 images, sets\n"
        "that come with scikit-learn (sklearn:NAME), synthetic ones (synthetic:NAME).",
    )
    inner = verb.add_subparsers(metavar="VERB", required=True, parser_class=parsing.Parser, title="verbs")
    _convert_parser(inner)
    _info_parser(inner)
    _make_parser(inner)


def _convert_parser(verbs: Any) -> None:
    verb = verbs.add_parser(
        "convert",
        help="write a data set as one HDF5 file",
        description="Read a data set, plain text with all ranks together, and write it as one HDF5 file.",
        epilog=CONVERT,
    )
    _source(verb)
    _stored(verb)
    verb.add_argument(
        "--components", metavar="K", type=parsing.count, help="keep the first K principal components of dense rows"
    )
    _described(verb)
    parsing.collective(verb, _convert)


def _info_parser(verbs: Any) -> None:
    verb = verbs.add_parser(
        "info",
        help="print what a data set holds",
        description="Print rows, dimension, labels, density, norms and the smoothness of the losses. Needs no MPI.",
        epilog=INFO,
    )
    _source(verb)
    _described(verb)
    parsing.alone(verb, _info)


def _make_parser(verbs: Any) -> None:
    verb = verbs.add_parser(
        "make", help="write a synthetic data set", description="Write a synthetic data set as HDF5.", epilog=MAKE
    )
    verb.add_argument("name", metavar="NAME", help="what may follow `synthetic:` in [data] source")
    _stored(verb)
    _described(verb, features=False)
    parsing.collective(verb, _make)


def _source(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", metavar="SOURCE", help="what [data] source may name")


def _stored(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", metavar="OUTPUT", help="the HDF5 file to write; its folder is made where it is missing")
    verb.add_argument("--dtype", choices=("float64", "float32"), default="float64", help="of the stored values")


def _described(verb: argparse.ArgumentParser, features: bool = True) -> None:
    if features:
        verb.add_argument(
            "--features", metavar="N", type=parsing.count, help="the dimension, where the file does not show it"
        )
    parsing.settings(verb, "an option of the source, a key of [data.options]; repeat -s for more")
    parsing.as_json(verb)


def _convert(args: argparse.Namespace, comm: Intracomm) -> int:
    from pathlib import Path

    from mpilocal.cli.launch import check_size
    from mpilocal.data.convert import convert

    check_size(comm)
    asked = args.dtype, args.features, _options(args), args.components
    return _wrote(args, comm, convert(comm, args.source, Path(args.file), *asked))


def _make(args: argparse.Namespace, comm: Intracomm) -> int:
    from pathlib import Path

    from mpilocal.cli.launch import check_size
    from mpilocal.data.make import make

    check_size(comm)
    return _wrote(args, comm, make(comm, args.name, _options(args), Path(args.file), args.dtype))


def _info(args: argparse.Namespace) -> int:
    from pathlib import Path

    from mpilocal.config.structs import Data
    from mpilocal.data.info import info
    from mpilocal.data.sources import open_source
    from mpilocal.show import pairs

    data = Data(source=args.source, features=args.features, options=_options(args))
    facts = info(open_source(data, Path.cwd()))
    output.say_json(facts) if args.json else output.say(pairs(_lines(facts)))
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the -s settings as [data.options]."""
    from mpilocal.config.toml import override

    return override({}, args.set)


def _wrote(args: argparse.Namespace, comm: Intracomm, facts: dict[str, Any]) -> int:
    if comm.rank == 0:
        kind = "sparse" if facts["sparse"] else "dense"
        output.say_json(facts) if args.json else output.say(
            f"{facts['output']}: {facts['rows']:,} rows × {facts['features']:,} features, {kind}, "
            f"{facts['nonzeros']:,} values of {facts['dtype']}, {facts['bytes']:,} bytes, digest {facts['digest']}"
        )
    return 0


def _lines(facts: dict[str, Any]) -> dict[str, str]:
    """Return the facts of `data.info` for people."""
    labels = facts["labels"]
    counts = ", ".join(f"{value}: {count:,}" for value, count in labels.get("counts", {}).items())
    norm, value, smooth = facts["row_norm"], facts["value"], facts["smoothness"]
    lines = {
        "rows": f"{facts['rows']:,}",
        "features": f"{facts['features']:,}",
        "non-zeros": f"{facts['nonzeros']:,}, density {facts['density']:.4g}",
        "kind": "sparse (CSR)" if facts["sparse"] else "dense",
        "labels": f"{labels['different']} different{f' ({counts})' if counts else ''}",
        "row norms": f"{norm['min']:.6g} to {norm['max']:.6g}, mean {norm['mean']:.6g}",
        "values": f"{value['min']:.6g} to {value['max']:.6g}",
        "smoothness L": f"{smooth['logistic']:.6g} logistic, {smooth['squared']:.6g} squared (without l2)",
        "max |row|²": f"{smooth['row_bound']:.6g}",
        "in memory": f"{facts['bytes']:,} bytes",
        "digest": facts["digest"],
    }
    if facts["users"] is not None:
        lines["users"] = f"{facts['users']:,}"
    if facts["extra"]:
        lines["known arrays"] = ", ".join(f"{name} {tuple(shape)}" for name, shape in facts["extra"].items())
    return lines
