"""The picture by plotly."""

from mmsn.evaluation import pareto_figure
from tests.evaluation.reports import report, result


def test_the_frontier_is_drawn_in_steps_and_all_points_are_there():
    whole = report(*(result(i, 10**9 * (i + 1), v) for i, v in enumerate([1.0, 0.5, 3.0])))
    figure = pareto_figure([whole])
    assert figure.data[0].line.shape == "hv"
    assert list(figure.data[0].x) == [1.0, 3.0]
    assert sorted(x for trace in figure.data[1:] for x in trace.x) == [1.0, 2.0, 3.0]


def test_texts_are_escaped():
    figure = pareto_figure([report(result(0, 10**9, 1.0))], alone={"<b> & c": (1.0, 2.0)})
    assert figure.data[-1].text[0] == "&lt;b&gt; &amp; c<br>1 GFLOPs, 2.000"
    assert figure.data[1].text[0].startswith("<b>stitch 0 (anchor)</b><br>0:0-12<br>1 GFLOPs")
