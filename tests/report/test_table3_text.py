"""An explanation as text: exact expectations on a small one."""

from relatif.pipeline.report.paper import TABLE_3, NamedExample
from relatif.pipeline.report.table3_text import CLASS_WIDTH, TEXT_WIDTH, Explanation, explanation_text
from relatif.schemas.methods import METHODS

WIDTH = 100

EXPLANATION = Explanation(
    test=NamedExample("Vasyukov", "Russian", "Russian"),
    explained_label="Russian",
    probability=0.99994,
    examples={
        "l_relatif": [NamedExample("Tzayukov", "Russian", "Russian"), NamedExample("Losyukov", "Russian", "Russian")],
        "influence": [NamedExample("Muhlbauer", "Czech", "Russian"), NamedExample("Li", "Chinese", "Vietnamese")],
    },
)

BESIDE_THE_PAPER = """\
Table 3: training examples that explain why 'Vasyukov' is Russian (probability 0.9999)
(true class Russian, classified Russian)

method     rank  ours       class    classified  paper     class    classified
IF            1  Muhlbauer  Czech    Russian     Tokovoi   Russian  Japanese
              2  Li         Chinese  Vietnamese  Nasikan   Russian  Japanese
l-RelatIF     1  Tzayukov   Russian  Russian     Gasyukov  Russian  Russian
              2  Losyukov   Russian  Russian     Tsayukov  Russian  Russian"""

ALONE = """\
Input: training examples that explain why 'Vasyukov' is Russian (probability 0.9999)
(true class Russian, classified Russian)

method     rank  example    class    classified
IF            1  Muhlbauer  Czech    Russian
              2  Li         Chinese  Vietnamese
l-RelatIF     1  Tzayukov   Russian  Russian
              2  Losyukov   Russian  Russian"""


def test_ours_stand_beside_the_papers():
    text = explanation_text(EXPLANATION, title="Table 3", paper=TABLE_3["LSTM"].examples)

    assert text == BESIDE_THE_PAPER


def test_without_the_papers_ours_stand_alone():
    assert explanation_text(EXPLANATION, title="Input", paper={}) == ALONE
    assert explanation_text(EXPLANATION, title="Input", paper={"theta_relatif": EXPLANATION.examples["influence"]}) == (
        ALONE
    )


def test_where_the_paper_has_fewer_examples_nothing_stands_beside_ours():
    paper = {"influence": TABLE_3["LSTM"].examples["influence"][:1]}

    lines = explanation_text(EXPLANATION, title="Table 3", paper=paper).splitlines()

    assert lines[4].endswith("Russian     Tokovoi  Russian  Japanese")
    assert lines[5] == "              2  Li         Chinese  Vietnamese"


def test_long_texts_and_classes_are_cut_to_the_width():
    long = NamedExample("x" * TEXT_WIDTH + "yz", "c" * CLASS_WIDTH + "d", "p" * CLASS_WIDTH)
    explanation = Explanation(EXPLANATION.test, "Russian", 1.0, dict.fromkeys(METHODS, [long] * 6))

    lines = explanation_text(explanation, title="Table 3", paper=TABLE_3["LSTM"].examples).splitlines()

    assert f"  {'x' * (TEXT_WIDTH - 1)}…  {'c' * (CLASS_WIDTH - 1)}…  {'p' * CLASS_WIDTH}  Tokovoi" in lines[4]
    assert max(map(len, lines)) <= WIDTH
    assert not any(line != line.rstrip() for line in lines)
