"""The exported tables hold the study's numbers, all of one length and none changed."""

from logitherm.report.tables import SCORE_NAMES, export_tables


def test_columns_are_of_one_length(any_contents):
    for name, table in export_tables(any_contents).items():
        assert len({len(column) for column in table.values()}) == 1, name


def test_scores_are_the_scores(contents):
    table = export_tables(contents)["scores"]
    assert table["score"] == list(SCORE_NAMES)
    for i, key in enumerate(table["score"]):
        for when in ("before", "after"):
            assert table[when][i] == contents[when][key]["value"]
            assert table[f"{when}_low"][i] == contents[when][key]["low"]
            assert table[f"{when}_high"][i] == contents[when][key]["high"]


def test_a_missing_score_is_left_out(contents):
    del contents["after"]["mce"]
    assert "mce" not in export_tables(contents)["scores"]["score"]


def test_diagrams_and_histogram(contents):
    tables, diagram = export_tables(contents), contents["reliability"]["after"]
    table = tables["reliability-after"]
    assert table["bin_low"] + [1.0] == diagram["edges"]
    assert table["rows"] == diagram["count"] == tables["confidence-histogram"]["rows_after"]
    assert table["accuracy"] == diagram["accuracy"]
    assert table["accuracy_high"] == diagram["high"]


def test_the_grid_has_a_line_for_each_temperature_and_bin(contents):
    table, grid = export_tables(contents)["slider-diagram"], contents["reliability"]["grid"]
    bins = len(grid["diagrams"][0]["count"])
    assert table["temperature"][::bins] == grid["temperature"]
    assert table["ece"][::bins] == grid["ece"]
    assert table["rows"] == [n for diagram in grid["diagrams"] for n in diagram["count"]]


def test_the_curve_carries_its_marks(contents):
    table, fit = export_tables(contents)["nll-curve"], contents["fit"]
    marks = dict(zip(table["point"], zip(table["temperature"], table["nll"], strict=True), strict=True))
    assert marks["fitted"] == (fit["temperature"], fit["nll_after"])
    assert marks["unscaled"] == (1.0, fit["nll_before"])
    assert [marks["interval_low"][0], marks["interval_high"][0]] == fit["interval"]
    assert table["point"].count("curve") == len(contents["nll_curve"]["nll"])
