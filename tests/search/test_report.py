"""The page is well-formed, says everything, loads nothing, and draws any space."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import example_spaces
import pandas as pd
import pytest

import nas
from nas.search.reporting.analysis import Analysis
from nas.search.reporting.curves import Curve
from nas.search.reporting.drawing import draw, group_of, groups
from nas.search.reporting.facts import Fact
from nas.search.reporting.findings import strip
from nas.search.reporting.marginals import marginals
from nas.search.reporting.plots import pareto_figure
from nas.search.reporting.report import Report, write_report
from nas.search_space.architecture import Architecture, GeneValue
from nas.search_space.gene_space import GeneSpace
from nas.search_space.presets import load_preset, preset_names
from nas.tasks.task import ACCURACY

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = '</script><script>alert("x")</script>&'


class Page(HTMLParser):
    """Checks that tags nest; keeps addresses, texts and what the drawing marks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.addresses: list[str | None] = []
        self.genes: set[str | None] = set()
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action", "xlink:href")]
        self.genes |= {v for k, v in attrs if k == "data-gene"}

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.words += data


def table(space: GeneSpace, n: int) -> tuple[pd.DataFrame, list[Architecture]]:
    """Trials of random nets: the more accurate, the slower."""
    nets = list(dict.fromkeys(space.sample(seed) for seed in range(n)))
    rows = [
        {
            "number": i,
            "id": a.id,
            **{name: a.get(name) for name in space.genes},
            "accuracy": 0.9 + i / 1000,
            "latency_ms": 1.0 + i / 10,
            "latency_low_ms": 0.8 + i / 10,
            "latency_high_ms": 1.5 + i / 10,
            "params": 1000 + i,
            "flops": 1e6 * i,
            "feasible": i < len(nets) - 1 or i == 0,
        }
        for i, a in enumerate(nets)
    ]
    return pd.DataFrame(rows), nets


def report_of(space: GeneSpace, n: int = 6) -> Report:
    trials, nets = table(space, n)
    front = trials[trials["feasible"]]
    return Report(
        metric=ACCURACY,
        title="nas search --budget 2ms",
        facts={"latency": Fact("1.50 ms", ", 1.3 to 2 (analytic)"), "device": Fact("", "here: this machine")},
        notes=["The budget does not bind."],
        trials=trials,
        front=front,
        chosen=front["id"].iloc[-1],
        budget_ms=2.0,
        architecture=nets[len(front) - 1],
        space_genes=space.genes,
        cost_by_kind={"matmul": (2e6, 3e5, 12), "gather": (0, 1e3, 1)},
        history=[{"step": s, "loss": 2 / s, "largest_loss": 1 / s, "lr": 1e-3} for s in range(1, 50)],
        events=["step 9: loss 99 diverged"],
    )


@pytest.fixture(scope="module")
def digits() -> nas.SearchSpace:
    return nas.SearchSpace(load_preset("vit-digits").bind((1, 8, 8), 10))


def written(content: Report, folder: Path) -> str:
    return write_report(folder / "report.html", content).read_text()


def test_the_page_says_everything(digits: nas.SearchSpace, tmp_path: Path) -> None:
    content = report_of(digits)
    page = Page(written(content, tmp_path))
    assert page.open == []
    said = [*content.facts, *content.notes, *content.events, content.title, content.chosen, *content.front["id"]]
    assert [s for s in said if s not in page.words] == []
    assert [s for s in ("matmul", "2 M", "300 KB", "1.4 ms (1.2 to 1.9)", "90.40%") if s not in page.words] == []
    assert page.genes == set(content.architecture)


def test_facts_with_a_number_are_tiles_and_others_a_list(digits: nas.SearchSpace, tmp_path: Path) -> None:
    text = written(report_of(digits), tmp_path)
    assert "<div><dt>latency</dt><dd><b>1.50 ms</b> <span>1.3 to 2 (analytic)</span></dd></div>" in text
    assert "<b></b>" not in text
    assert "here: this machine" in Page(text).words


def test_the_page_of_a_quantized_net_shows_its_bits(tmp_path: Path) -> None:
    genes: dict[str, list[GeneValue]] = {"width": [8, 16], "layers.0.heads": [1, 2]}
    space = GeneSpace({**genes, "quantize.layers.0.mixer": ["w8a8", "w4a16g32"], "quantize.stem": ["w8a8", "w16a16"]})
    page = Page(written(report_of(space), tmp_path))
    assert page.open == []
    assert page.genes == set(space.genes)
    assert "Bits of its parts" in page.words
    assert "Bits of its parts" not in Page(written(report_of(GeneSpace(genes)), tmp_path)).words


def test_the_page_loads_nothing(digits: nas.SearchSpace, tmp_path: Path) -> None:
    text = written(report_of(digits), tmp_path)
    page = Page(text)
    assert set(page.addresses) == {"data:,"}
    style = re.findall(r"<style>.*?</style>", text, re.DOTALL)[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in text  # and the browser would refuse
    assert len(re.findall(r"plotly\.js v\d", text)) == 1
    assert len(text) < 6e6


def test_what_users_name_is_escaped(tmp_path: Path) -> None:
    space = GeneSpace({f"a.{EVIL}": [1, 2], "b": [EVIL, "other"], EVIL: [f"{EVIL}1", f"{EVIL}2"]})
    plain = Page(written(report_of(GeneSpace({"a": [1, 2], "b": ["x", "y"]})), tmp_path))
    content = report_of(space, 12)
    content = replace(
        content, title=EVIL, notes=[EVIL], events=[EVIL], facts={EVIL: Fact("", EVIL), "5": Fact("5 ms", EVIL)}
    )
    content = replace(content, cost_by_kind={EVIL: (1, 1, 1)})
    text = written(content, tmp_path)
    assert 'alert("x")' not in text
    page = Page(text)
    assert page.open == []
    assert page.scripts == plain.scripts
    assert page.genes == set(content.architecture)


def analysis_of(content: Report, nets: list[Architecture], word: str) -> Analysis:
    """An analysis in which everything that has a name is called `word`."""
    row = {"search": word, "evaluations": 9, "hypervolume": 0.5, "front": 2, "best": 0.9, "latency_ms": 1.0, "id": word}
    none = {**row, "best": None, "latency_ms": None, "id": None}
    return Analysis(
        metric=ACCURACY,
        why=[word],
        knee=word,
        importances={word: {word: 0.7}, "latency_ms": {word: 0.1}},
        marginals=marginals(content.space_genes, nets),
        curves={word: Curve([0.2, 0.5], [1.0, 2.0])},
        comparison=pd.DataFrame([row, none]),
        fronts={word: content.front},
    )


def test_the_sections_of_an_analysis_say_everything_and_escape_it(tmp_path: Path) -> None:
    space = GeneSpace({f"a.{EVIL}": [1, 2], "b": [EVIL, None, "other"], EVIL: [f"{EVIL}1", f"{EVIL}2"]})
    content = report_of(space, 12)
    content = replace(content, analysis=analysis_of(content, table(space, 12)[1], EVIL))
    text = written(content, tmp_path)
    page = Page(text)
    assert page.open == []
    assert 'alert("x")' not in text
    for words in (EVIL, "Why this net", "70.0%", "Which genes mattered", "none", "How the search went"):
        assert words in page.words
    assert any(f"{EVIL}{i} in " in page.words for i in (1, 2))
    plain = Page(written(replace(content, analysis=analysis_of(content, [], "x")), tmp_path))
    assert page.scripts == plain.scripts


def test_a_front_gene_by_gene_has_a_cell_for_every_net() -> None:
    space = GeneSpace({"width": [1, 2, 4], "mixer": ["softmax", None], "one": [3]})
    front = [Architecture(g) for g in ({"width": 1}, {"width": 1, "mixer": None}, {"width": 4, "mixer": "softmax"})]
    width, mixer = (strip(marginal) for marginal in marginals(space.genes, front))
    assert width.cells == [("number", "1", 0.25), ("number", "1", 0.25), ("number", "4", 1.0)]
    assert [style for style, *_ in mixer.cells] == ["none", "hue1", "hue0"]
    assert width.most == "1 in 2 of 3"


def test_the_column_of_the_chosen_net_is_outlined(tmp_path: Path) -> None:
    space = GeneSpace({"width": [1, 2, 4], "mixer": ["softmax", None]})
    content, nets = report_of(space), table(space, 6)[1][:-1]
    text = written(replace(content, analysis=analysis_of(content, nets, "x")), tmp_path)
    cells = [re.findall(r'<b class="([^"]*)"', row) for row in text.split('<div class="cells">')[1:3]]
    assert [["chosen" in style for style in row] for row in cells] == [[False] * (len(nets) - 1) + [True]] * 2


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in {"vit-mobile", "matlm"})) for n in preset_names()]
)
def test_every_gene_of_a_preset_is_drawn(name: str) -> None:
    space = nas.SearchSpace(example_spaces.preset_function(name))
    for net in (space.largest, space.smallest, space.sample(0)):
        assert marked(draw(net, space.genes)) == set(net)


def marked(svg: str) -> set[str]:
    """Genes that a drawing shows; it must be well-formed XML."""
    return {g.attrib["data-gene"] for g in ElementTree.fromstring(svg).iter() if "data-gene" in g.attrib}


def test_layers_left_out_are_dashed(digits: nas.SearchSpace) -> None:
    assert "layers.2 is left out" in draw(digits.architecture({**digits.largest, "layers.2.keep": False}), digits.genes)
    assert "left out" not in draw(digits.largest, digits.genes)


def test_depth_genes_leave_layers_out() -> None:
    space = nas.SearchSpace(example_spaces.vit)
    drawing = draw(space.smallest, space.genes)
    assert re.findall(r"layers.\d is left out", drawing) == [f"layers.{i} is left out" for i in (5, 4, 3)]
    assert marked(drawing) == set(space.smallest)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": [0.1, 0.01], "offset": [-2, 0, 2], "bias": [True, False], "kind": [None, "adam"], "one": [3]},
        {"encoder.layers.0.attn.heads": [1, 64], "encoder.layers.0.mlp.hidden": [8, 16], "decoder.0.heads": [2, 4]},
        {"layers.0.keep": [False], "layers.0.heads": [0, 2], "layers.0.group": [1, 2], "layers.0.ffn": ["a", "none"]},
    ],
)  # fmt: skip
def test_any_space_is_drawn(options: dict[str, list[GeneValue]]) -> None:
    space = GeneSpace(options)
    for net in space.enumerate():
        assert marked(draw(net, space.genes)) == set(options)


def test_genes_are_grouped_from_input_to_output() -> None:
    names = ["readout", "layers.10.mixer", "layers.2.mixer", "width", "stem.patch", "layers.2.attn.heads"]
    assert list(groups(names)) == ["", "stem", "layers.2", "layers.10", "readout"]
    assert group_of("layers.2.attn.heads") == "layers.2"
    assert group_of("block.norm") == "block"


def test_a_run_without_curve_and_a_front_of_one(digits: nas.SearchSpace, tmp_path: Path) -> None:
    content = replace(report_of(digits, 1), history=(), events=(), notes=(), cost_by_kind={}, budget_ms=None)
    page = Page(written(content, tmp_path))
    assert "No training curve" in page.words
    assert page.words.count("front:") == 2  # the row, and the caption that explains it


def test_nets_on_the_front_by_another_objective_are_beside_its_line(digits: nas.SearchSpace) -> None:
    trials, _ = table(digits, 7)
    worse = trials.assign(energy_mj=0.5).iloc[[0, 2, 4]]
    worse.loc[2, "accuracy"] = 0.1  # slower and less accurate, but frugal
    figure = pareto_figure(
        trials, worse, metric=ACCURACY, chosen=worse["id"][4], budget_ms=None, genes=[], others={"random": worse}
    )
    traces = {trace["name"]: trace for trace in json.loads(figure.to_json())["data"]}
    assert [len(traces[n]["hovertext"]) for n in ("front", "front, by other objectives", "random")] == [2, 1, 2]
    assert "energy 0.5 mJ" in traces["front, by other objectives"]["hovertext"][0]


def test_where_less_is_better_the_line_of_the_front_goes_down(digits: nas.SearchSpace) -> None:
    trials, _ = table(digits, 6)
    error = trials.rename(columns={"accuracy": "rmse"})
    falling = error.assign(rmse=[9.0, 8.0, 8.5, 7.0, 6.0, 5.0])  # the third is slower and worse than the second
    metric = nas.Metric("rmse", unit="m")
    figure = pareto_figure(error, falling, metric=metric, chosen=falling["id"][0], budget_ms=None, genes=[])
    drawn = json.loads(figure.to_json())
    traces = {trace["name"]: trace for trace in drawn["data"]}
    assert [len(traces[n]["hovertext"]) for n in ("front", "front, by other objectives")] == [5, 1]
    assert "rmse 9 m" in traces["front"]["hovertext"][0]
    assert drawn["layout"]["yaxis"]["title"]["text"] == "rmse m"
    assert "tickformat" not in drawn["layout"]["yaxis"]


def test_the_figure_shows_trials_limits_and_intervals(digits: nas.SearchSpace) -> None:
    content = report_of(digits)

    def figure(budget_ms: float | None) -> dict:
        made = pareto_figure(
            content.trials,
            content.front,
            metric=ACCURACY,
            chosen=content.chosen,
            budget_ms=budget_ms,
            genes=list(digits.genes),
        )
        return json.loads(made.to_json())

    bad, good, front, chosen = figure(1.2)["data"]
    assert [len(t["hovertext"]) for t in (bad, good, front, chosen)] == [1, 5, 5, 1]
    assert chosen["hovertext"][0].startswith(f"<b>{content.chosen}</b><br>accuracy 90.40%<br>1.4 ms (1.2 to 1.9)")
    near, far = figure(1.2)["layout"], figure(99)["layout"]
    assert near["shapes"][0]["x0"] == 1.2
    assert far["xaxis"]["range"] == figure(None)["layout"]["xaxis"]["range"]  # a far budget does not squeeze the nets
    assert "beyond" in far["annotations"][0]["text"]
    assert "shapes" not in far
