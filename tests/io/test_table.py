"""Comma-separated text: headers, quirks of those who write it, and the line at fault."""

import numpy as np
import pytest

from logitherm.io import InputError, read_logits


def text(tmp_path, content, name="val.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        "a,b,label\n0.5,1,1\n2,3,0\n",
        "label,a,b\n1,0.5,1\n0,2,3\n",
        "a,Labels,b\n0.5,1,1\n2,0,3\n",
        "a,b,label\r\n0.5,1,1.0\r\n2,3,0.0\r\n",
        "\n0,1,label\n0.5,1,1\n\n2,3,0",
        b"\xef\xbb\xbflabel,a,b\n1,0.5,1\n0,2,3\n",
        '"a, first","b","label"\n"0.5",1,1\n2,3,0\n',
        " a , b , label \n 0.5 , 1 , 1 \n2,3,0\n",
    ],
)
def test_headers(tmp_path, content):
    data = read_logits(text(tmp_path, content))
    assert data.logits.tolist() == [[0.5, 1.0], [2.0, 3.0]]
    assert data.labels.tolist() == [1, 0]


@pytest.mark.parametrize("content", ["0.5,1\n2,3\n", "0,1\n0.5,1\n2,3\n", "a,b\n0.5,1\n2,3\n"])
def test_without_labels_the_header_may_be_missing_or_count(tmp_path, content):
    data = read_logits(text(tmp_path, content), labels=text(tmp_path, "1\n0\n", "y.txt"))
    assert data.logits.tolist() == [[0.5, 1.0], [2.0, 3.0]]
    assert data.labels.tolist() == [1, 0]


def test_labels_by_header_in_their_own_file(tmp_path):
    path = text(tmp_path, "0.5,1\n2,3\n")
    assert read_logits(path, labels=text(tmp_path, "label\n1\n0\n", "y.csv")).labels.tolist() == [1, 0]
    assert read_logits(path, labels=text(tmp_path, "id,label\n9,1\n8,0\n", "y.csv")).labels.tolist() == [1, 0]


def test_infinities_are_numbers(tmp_path):
    data = read_logits(text(tmp_path, "a,b,label\n-inf,1,1\n2,-Infinity,0\n"))
    assert data.logits.tolist() == [[-np.inf, 1.0], [2.0, -np.inf]]


def test_what_pandas_writes_comes_back_exactly(tmp_path):
    pd = pytest.importorskip("pandas", reason="pandas writes this file")
    logits = np.random.default_rng(0).normal(size=(20, 3)) * 10.0 ** np.arange(-9, 0, 3)
    pd.DataFrame(logits).assign(label=np.arange(20) % 3).to_csv(tmp_path / "val.csv", index=False)
    np.testing.assert_array_equal(read_logits(tmp_path / "val.csv").logits, logits)
    pd.DataFrame(logits).assign(label=0).to_csv(tmp_path / "val.csv")
    with pytest.raises(InputError, match=r"column 0 \(from 0\) has no name"):
        read_logits(tmp_path / "val.csv")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("", "val.csv: has no labels|rows and classes"),
        ("a,b,label\n", "rows and classes"),
        ("0.5,1\n2,3\n", "has no labels"),
        ("a,b\n2,3\n", "has no labels.*found a, b"),
        ("label\n1\n", "must hold 'logits'; found label"),
        ("a,b,label\n0.5,1,1\n2,x,0\n", "line 3, cell 2 is 'x'"),
        ("a,b,label\n0.5,1,1\n2,,0\n", "line 3, cell 2 is ''"),
        ("a,b,label\n0.5,1,1\n2,0\n", "line 3 has 2 and not 3"),
        ("a,b,label\n0.5,1\n2,3\n", "the 3 cells of its header; got 2"),
        ("a,b,label\n0.5,1,cat\n2,3,dog\n", "'cat'; mend it, or encode labels as the integers 0 to K-1"),
        ("a;b;label\n0.5;1;1\n", "separated by commas"),
        ("a\tb\tlabel\n0.5\t1\t1\n", "separated by commas"),
        ("0.5,1.5,x\n1,2,3\n", "line 1 must be names or numbers; it has '0.5' beside text"),
        ("a,b,label,labels\n1,2,0,0\n", "one column of labels"),
        ("a,,label\n1,2,0\n", "column 1 .* has no name"),
        (b"\xff\xfe\x00a,b\n", "UTF-8"),
        (b"a,b,label\n1,2,0\n\xff,2,1\n", "UTF-8"),
        ('a,b,label\n1,"2,0\n', "val.csv"),
    ],
)
def test_the_line_at_fault(tmp_path, content, part):
    with pytest.raises(InputError, match=part) as caught:
        read_logits(text(tmp_path, content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header", ["class_1,class_0,label", "label,1,0,2", "z0,z1,z10,label,z2", "c0,c0,label"])
def test_numbered_columns_must_be_in_order(tmp_path, header):
    names = header.split(",")
    row = ",".join("0" for _ in names)
    with pytest.raises(InputError, match=r"columns must be in the order of the labels; got .* before .*; reorder them"):
        read_logits(text(tmp_path, f"{header}\n{row}\n"))
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow writes this file")
    if len(set(names)) == len(names):
        import pyarrow as pa

        columns = {name: pa.array([0] if name == "label" else [0.5]) for name in names}
        parquet.write_table(pa.table(columns), tmp_path / "val.parquet")
        with pytest.raises(InputError, match="columns must be in the order of the labels"):
            read_logits(tmp_path / "val.parquet")


@pytest.mark.parametrize("header", ["class_1,class_2,label", "2,10,label", "cat2,dog1,label", "b1,a,label"])
def test_other_names_may_be_anything(tmp_path, header):
    assert read_logits(text(tmp_path, f"{header}\n1,2,0\n")).logits.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("content", ["1,0,2\n0.5,1,2\n", "1,2,3\n4,5,6\n", "0,1\n1,0\n", "0,1\n"])
def test_whole_numbers_that_may_be_names_or_a_row_are_refused(tmp_path, content):
    """Else a row would be lost, or the names would become one."""
    with pytest.raises(InputError, match=r"line 1 must be names, or numbers that cannot .*; write a line of names"):
        read_logits(text(tmp_path, content), need_labels=False)


@pytest.mark.parametrize("content", ["1.0,0,2\n0.5,1,2\n", "1,1,2\n0.5,1,2\n", "-1,0,2\n0.5,1,2\n"])
def test_numbers_that_are_no_names_are_a_row(tmp_path, content):
    assert read_logits(text(tmp_path, content), need_labels=False).n == 2


def test_a_file_of_labels_has_no_classes_to_order(tmp_path):
    labels = text(tmp_path, "f2,f1,label\n9,9,1\n", "y.csv")
    assert read_logits(text(tmp_path, "0.5,1\n"), labels=labels).labels.tolist() == [1]
