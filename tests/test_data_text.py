"""LIBSVM text: the compiled parser against a slow one, byte ranges, compression, and what is refused."""

import bz2
import gzip
import io
import itertools
import lzma
import math
import re
import time

import numpy as np
import pytest
from data_helpers import as_dicts, assert_same, read, slow_parse, sparse_rows, to_text
from hypothesis import example, given
from hypothesis import strategies as st

from mpilocal.config.structs import Data
from mpilocal.data import open_source
from mpilocal.data.kind import Found
from mpilocal.data.svmlight import lines_between, parse_text, whole_lines
from mpilocal.errors import DataError

digits = st.text("0123456789", min_size=1, max_size=25)
decimals = st.builds(
    lambda sign, whole, fraction, power: sign + whole + fraction + power,
    st.sampled_from(["", "+", "-"]),
    digits,
    st.one_of(st.just(""), st.just("."), digits.map(lambda d: "." + d)),
    st.one_of(
        st.just(""),
        st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 40)),
    ),
)
doubles = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.one_of(decimals, doubles.map(repr), doubles.map("{:.17e}".format), st.just(".5"), st.just("1e-400"))
blanks = st.sampled_from([" ", "  ", "\t", " \t "])


@st.composite
def lines(draw):
    """One line: perhaps blank, a comment, a row; with the freedoms that the format has."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.sampled_from(["", " ", "# 1 2:3", "\t# ü", "\r"]))
    tokens = [draw(numbers)]
    if draw(st.booleans()):
        tokens.append("qid:" + draw(digits))
    indices = sorted(draw(st.sets(st.integers(1, 40), max_size=8)))
    tokens += [f"{index}:{draw(numbers)}" for index in indices]
    line = draw(st.sampled_from(["", " "])) + draw(blanks).join(tokens)
    return line + draw(st.sampled_from(["", " ", "\r", "# c:d", " # 7:x"]))


texts = st.builds(lambda body, end: "\n".join(body) + end, st.lists(lines(), max_size=12), st.sampled_from(["", "\n"]))


@given(texts)
def test_parser_agrees_with_python(text):
    labels, rows = slow_parse(text)
    parsed = parse_text(text.encode())
    assert parsed.fault is None
    assert parsed.rows.labels.tolist() == labels
    assert as_dicts(parsed.rows) == rows


@given(st.one_of(decimals, doubles.map(repr)))
@example("9007199254740993")  # 2^53 + 1: a tie, to even
@example("9007199254740993.0000000000000000000000001")
@example("0.1234567890123456789e-22")
@example("123456789012345678e22")
@example("1e23")
@example("8.5e-1000000000000000000000")
@example("2.2250738585072011e-308")
def test_every_number_is_rounded_correctly(text):
    value = parse_text(text.encode()).rows.labels[0]
    assert value == float(text)
    assert math.copysign(1, value) == math.copysign(1, float(text))


@given(texts, st.lists(st.integers(0, 400), max_size=6), st.integers(1, 50))
def test_byte_ranges_give_every_line_once(text, cuts, piece):
    data = text.encode()
    cuts = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    parts = [lines_between(io.BytesIO(data), a, b) for a, b in itertools.pairwise(cuts)]
    assert b"".join(parts) == data
    assert all(part.endswith(b"\n") for part in parts[:-1] if part and not data.endswith(part))
    assert b"".join(whole_lines(io.BytesIO(data), piece)) == data


BAD = {
    "1 0:1": "index 0 is below 1",
    "1 -2:1": "index -2 is below 1",
    "1 2:1 2:3": "index 2 occurs twice",
    "1 3:1 2:3": "index 2 follows a larger one",
    "1 1:nan": 'the value in "1:nan" is not finite',
    "1 1:-inf": 'the value in "1:-inf" is not finite',
    "1 1:1e999": '"1e999" is too large for a double',
    "1 1:x": 'the value in "1:x" is not a number',
    "1 1:": 'the value in "1:" is not a number',
    "1 1:1_0": "is not a number",
    "1 1:0x1p3": "is not a number",
    "1 1:1:2": "is not a number",
    "1 1:1e": "is not a number",
    "1 2": '"2" is not of the form index:value',
    "1 a:2": '"a:2" is not of the form index:value',
    "1 1.5:2": '"1.5:2" is not of the form',
    "inf 1:1": 'the label "inf" is not finite',
    "one 1:1": 'the label "one" is not a number',
    "1,2 1:1": 'the label "1,2" is not a number',
    "1 41:1": "index 41 is above features = 40",
    "1 2147483648:1": "index 2147483648 is above 2^31 - 1",
    "1 99999999999999999999999:1": "is above 2^31 - 1",
}


@pytest.mark.parametrize("line", BAD)
def test_faults_name_the_line_and_the_reason(line, tmp_path):
    path = tmp_path / "data"
    path.write_text("1 1:1\n# comment\n\n" + line + "\n1 0:0\n")
    with pytest.raises(DataError, match=rf"{re.escape(str(path))}, line 4: .*{re.escape(BAD[line])}"):
        read(path, dimension=40)


def test_largest_index_and_wide_features(tmp_path):
    path = tmp_path / "data"
    path.write_text("1 2147483647:1\n")
    assert read(path).rows.features == 2**31 - 1
    path.write_text("1 3:1\n")
    part = read(path, dimension=7)
    assert part.rows.features == 7 and part.rows.indices.tolist() == [2]


def test_dense_layout(tmp_path):
    (tmp_path / "d").write_text("1 2:0.5\n-1\n2 1:-3 3:4\n")
    part = read(tmp_path / "d", layout="dense")
    assert part.rows.dense.tolist() == [[0, 0.5, 0], [0, 0, 0], [-3, 0, 4]]
    assert part.digest != read(tmp_path / "d").digest
    source = open_source(Data(source="d", options={"layout": "dense"}), tmp_path)
    assert_same(source.read(0, 3), part.rows)


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n", "1\n-1\n"])
def test_nothing_to_read_is_refused(text, tmp_path):
    path = tmp_path / "data"
    path.write_text(text)
    with pytest.raises(DataError, match="is empty|holds no rows|no features"):
        read(path)


def test_many_slow_numbers_and_underflow():
    text = "".join(f"1 1:{k}.00000000000000000000000001e-30 2:1e-400\n" for k in range(1, 3000))
    parsed = parse_text(text.encode())
    assert as_dicts(parsed.rows) == [{0: float(f"{k}.00000000000000000000000001e-30")} for k in range(1, 3000)]


@pytest.mark.parallel([1, 2, 3])
def test_all_ranks_read_the_same_however_it_is_packed(tmp_path):
    from mpi4py import MPI

    from mpilocal.data.rows import block
    from mpilocal.data.text import read_text

    comm = MPI.COMM_WORLD
    rows = sparse_rows(101)
    text = to_text(rows).encode()
    bad = text + b"1 1:x\n" + text + b"1 0:1\n"
    packers = {"": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
    digests = set()
    for packing, pack in packers.items():
        path, wrong, cut = tmp_path / f"d{packing}", tmp_path / f"w{packing}", tmp_path / f"c{packing}"
        if comm.rank == 0:
            path.write_bytes(pack(text))
            wrong.write_bytes(pack(bad))
            cut.write_bytes(pack(text)[:-20])
        comm.Barrier()
        for piece in (1, 64, 1000, 1 << 20):
            got, first, total = read_text(comm, Found("text", path, packing, path.stat().st_size), None, piece)
            a, b = block(101, comm.size, comm.rank)
            assert (first, total, got.count, got.features) == (a, 101, b - a, 30)
            assert as_dicts(got) == as_dicts(rows)[a:b]
            assert got.labels.tolist() == rows.labels[a:b].tolist()
            with pytest.raises(DataError, match=r'line 102: the value in "1:x" is not a number'):
                read_text(comm, Found("text", wrong, packing, wrong.stat().st_size), None, piece)
        digests.add(read(path, comm).digest)
        if packing:
            with pytest.raises(DataError, match="cannot be read|damaged"):
                read(cut, comm)
    assert len(digests) == 1


def test_w8a(data, tmp_path):
    part = read(data / "libsvm" / "w8a.gz")
    assert (part.total, part.rows.features, len(part.rows.values)) == (49749, 300, 579586)
    assert (part.rows.labels == -1).sum() == 48270
    plain = tmp_path / "w8a"
    plain.write_bytes(gzip.decompress((data / "libsvm" / "w8a.gz").read_bytes()))
    assert_same(part.rows, read(plain).rows)
    assert part.digest == read(plain).digest


@pytest.mark.slow
def test_every_real_file_equals_scikit_learns_reading_and_is_parsed_faster(data):
    datasets = pytest.importorskip("sklearn.datasets")
    ours = theirs = 0.0
    for path in sorted((data / "libsvm").glob("*.gz")):
        text = gzip.decompress(path.read_bytes())
        began = time.perf_counter()
        parsed = parse_text(text)
        ours += time.perf_counter() - began
        began = time.perf_counter()
        x, y = datasets.load_svmlight_file(io.BytesIO(text))
        theirs += time.perf_counter() - began
        x.eliminate_zeros()
        rows = parsed.rows
        np.testing.assert_array_equal(rows.labels, y)
        np.testing.assert_array_equal(rows.values, x.data, err_msg=path.name)
        np.testing.assert_array_equal(rows.indices, x.indices)
        np.testing.assert_array_equal(rows.indptr, x.indptr)
    assert theirs > 3 * ours, (ours, theirs)
