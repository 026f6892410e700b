"""Tables know their numbers."""

from template_learning.report.blocks import Table, number, spread


def test_tables_know_their_numbers():
    table = Table(["a", "b", "c"], [["t001", "1,234", "–"], ["t002", "-0.5", "3 %"]])
    assert table.numeric == [False, True, True]
    assert table.folded == ""
    assert Table(["a"], [["x"]] * 17, "Long").folded == "Long (17 rows)"
    assert (number(None), number(1.234)) == ("–", "1.23")
    assert (spread([2, 1, 2], 0), spread([1, 2, 3, 4, 5], 1)) == ("1, 2", "1.0 to 5.0")
