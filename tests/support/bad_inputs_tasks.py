"""Tasks that have to be refused: each is a module of a user's own, right but for one part."""

from functools import partial
from pathlib import Path

from tests.support.bad_inputs import Case, command

PARTS = {
    "build_model": "nn.Sequential(nn.Flatten(), nn.Linear(36, 4))",
    "model_inputs": "inputs.float() / 255",
    "loss": "nn.functional.cross_entropy(outputs, labels, reduction='none')",
}
"""What the functions of a task return."""

MODULE = """
import sys, warnings
import numpy as np
import torch
from torch import nn
from relatif import Task, train_by_minibatches
{before}
def build_model():
    return {build_model}
def model_inputs(inputs):
    return {model_inputs}
def loss(outputs, labels):
    return {loss}
def train(task, data, config):
    return train_by_minibatches(task, data, config)
def make({arguments}):
    {made}
"""

FIELDS = {
    "class_count": "4",
    "build_model": "build_model",
    "model_inputs": "model_inputs",
    "loss": "loss",
    "train": "train",
}
FEW_EPOCHS = ("train.epochs=1", "score.top_k=2")


def module(**changes: str) -> str:
    """Return the source of a task's module, with other results of its functions or other fields of its Task.

    ``before`` is source before the functions, ``arguments`` and ``made`` are those of the function that makes the task;
    a change of ``fields_NAME`` gives the Task another field.
    """
    fields = FIELDS | {
        name.removeprefix("fields_"): value for name, value in changes.items() if name.startswith("fields_")
    }
    listed = ", ".join(f"{name}={value}" for name, value in fields.items())
    parts = PARTS | changes
    return MODULE.format(
        **{name: parts[name] for name in ("build_model", "model_inputs", "loss")},
        before=changes.get("before", ""),
        arguments=changes.get("arguments", ""),
        made=changes.get("made", f"return Task('own', {listed})"),
    )


def own(folder: Path, source: str, *settings: str) -> list[str]:
    """Write a task's module into a folder and return the command line of a run of it."""
    (folder / "own.py").write_text(source)
    return command(folder, "task=own:make", *FEW_EPOCHS, *settings)


def task(name: str, expected: str, *settings: str, late: bool = False, **changes: str) -> Case:
    """Return the case of a task with one part changed."""
    return Case("task", name, partial(_own, module(**changes), settings), expected, late)


def _own(source: str, settings: tuple[str, ...], folder: Path) -> list[str]:
    return own(folder, source, *settings)


def training(name: str, expected: str) -> Case:
    """Return the case of a task of tests.support.bad_training; only training itself shows what is wrong."""
    setting = f"task=tests.support.bad_training:{name}"
    shown = f"train {name.replace('_', ' ')}"
    return Case("task", shown, lambda folder: command(folder, setting, *FEW_EPOCHS), expected, late=True)


AT = r".*bad_training\.py:\d+"

NETWORK = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(36, 36), nn.Linear(36, 4)
        {init}
    def forward(self, inputs):
        hidden = self.layer(inputs.flatten(1))
        {body}
"""


WORDS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(30522, 2), nn.Linear(72, 4)
    def forward(self, codes):
        return self.head(self.words(codes.long()).flatten(1))
"""


def network(body: str, init: str = "pass") -> dict[str, str]:
    """Return the changes that make a model of two layers with this end of its forward pass."""
    return {"before": NETWORK.format(body=body, init=init), "build_model": "Net()"}


SETTING_UP = [
    task("needs an argument", r"'make' of .*TypeError: make\(\) missing 1 required .* at .*own\.py:\d+", arguments="x"),
    task(
        "raises when called",
        r"'make' .*return a Task, found ValueError: on purpose at .*own\.py:\d+",
        made="raise ValueError('on purpose')",
    ),
    task(
        "raises when imported",
        r"module 'own' .*be imported, found RuntimeError: here at .*own\.py:7",
        before="raise RuntimeError('here')",
    ),
    task(
        "a value error when imported",
        r"be imported, found ValueError: here at .*own\.py:7",
        before="raise ValueError('here')",
    ),
    task("sys.exit when imported", r"found sys\.exit\('bye'\) at .*own\.py:7", before="sys.exit('bye')"),
    task("sys.exit when called", r"found sys\.exit\(None\) at .*own\.py", made="sys.exit()"),
    task("bad syntax", r"found SyntaxError: .* at .*own\.py:7", before="def ("),
    task("a recursion without end", r"found RecursionError: maximum .* at .*own\.py:\d+", made="return make()"),
    task("no memory", r"found MemoryError at .*own\.py:\d+", made="raise MemoryError"),
    task("a message of many lines", r"found OSError: one two three at", made="raise OSError('one\\ntwo\\n\\n  three')"),
    task(
        "a coroutine",
        r"own:make to return a Task, found coroutine",
        before="async def make2(): pass",
        made="return make2()",
    ),
    task("a class in its place", r"own:make to return a Task, found the class Task", made="return Task"),
    *(
        task(
            f"class_count {count}",
            rf"class_count of task 'own' to be a whole number of at least 2, found {shown}",
            fields_class_count=count,
        )
        for count, shown in (("'10'", "'10'"), ("1", "1"), ("0", "0"), ("-1", "-1"), ("True", "True"), ("2.5", r"2\.5"))
    ),
    task("class_count of other data", "expected data of 7 classes for task", fields_class_count="7"),
    task("train is a string", "train of task 'own' to be a function .*found str 'sgd'", fields_train="'sgd'"),
    task("loss is a string", "loss of task 'own' to be a function", fields_loss="'cross_entropy'"),
    task("build_model is None", "expected task 'own' with .*found none of build_model", fields_build_model="None"),
    task("retrain is a function", r"retrain of task 'own' .*without \['prepare', 'run'\]", fields_retrain="train"),
    task("likelihood is a class", "with one likelihood, found", fields_likelihood="nn.Module"),
]

MODELS = [
    task("model is no module", "build_model of task 'own' to return an nn.Module, found 7", build_model="7"),
    task("model is a class", "to return an nn.Module, found the class Linear", build_model="nn.Linear"),
    task("model is a function", "to return an nn.Module, found function", build_model="lambda inputs: inputs"),
    task(
        "model raises",
        r"forward pass of the model Net .*found ValueError: inside at .*own\.py:\d+ \(called on inputs float64 \[",
        **network("raise ValueError('inside')"),
    ),
    task("model exits", r"forward pass of the model Net .*found sys\.exit\(4\) at .*own\.py", **network("sys.exit(4)")),
    task(
        "build_model raises", r"build_model of task 'own' .*found TypeError: .* at .*:\d+", build_model="nn.Linear(3)"
    ),
    task("model without parameters", "expected a model with trainable layers, found none", build_model="nn.Flatten()"),
    task(
        "frozen model",
        "expected a model with trainable layers, found none",
        build_model="nn.Sequential(nn.Flatten(), nn.Linear(36, 4)).requires_grad_(False)",
    ),
    task(
        "model with 9 outputs",
        r"each of 4 classes, found outputs of shape \[4, 9\]",
        build_model="nn.Sequential(nn.Flatten(), nn.Linear(36, 9))",
    ),
    task(
        "model of another width",
        r"forward pass of the model Sequential .*shapes cannot be multiplied",
        build_model="nn.Sequential(nn.Flatten(), nn.Linear(35, 4))",
    ),
    task(
        "model that returns two outputs",
        r"to return one batch of outputs, found 2 \(",
        **network("return self.head(hidden), self.head(hidden)"),
    ),
    task("model that returns nothing", "found None", **network("self.head(hidden)")),
    task(
        "model that returns fewer rows",
        r"examples as first axis",
        **network("return self.head(hidden).mean(dim=0, keepdim=True)"),
    ),
    task(
        "parameter in an unknown function",
        r"found shift in cdist, .*curvature\.exclude = \['shift'\]",
        **network(
            "return self.head(hidden) + torch.cdist(self.shift, hidden).T",
            "self.shift = nn.Parameter(torch.ones(4, 36))",
        ),
    ),
    task("unused layer", r"found .*'head'.* unused", **network("return hidden[:, :4]")),
    task("examples mixed (batch mean)", "expected", **network("return self.head(hidden - hidden.mean(dim=0))")),
]

LARGE_VOCABULARY = task(
    "an embedding of 30,522 words", "", before=WORDS, build_model="Net()", model_inputs="inputs.flatten(1)"
)
"""This one is explained: its words' second moment is kept as a diagonal."""

INPUTS_AND_LOSSES = [
    task(
        "model_inputs raises",
        r"model_inputs to turn .*found ZeroDivisionError: .* at .*own\.py:\d+ \(called on inputs uint8 .* rows 0 to",
        model_inputs="1 / 0",
    ),
    task("model_inputs a numpy array", r"found numpy\.ndarray float32", model_inputs="(inputs.float() / 255).numpy()"),
    task(
        "model_inputs of fewer rows",
        "model_inputs to return a tensor with the",
        model_inputs="inputs.float()[:1].mean(dim=0)",
    ),
    task("loss is a float", "loss of task 'own' to return a tensor of one loss .*found 0.5", loss="0.5"),
    task(
        "loss is a mean",
        r"expected a loss for each of \d+ examples, found shape \[\]",
        loss="nn.functional.cross_entropy(outputs, labels)",
    ),
    task(
        "loss of a column",
        r"expected a loss for each of \d+ examples, found shape \[\d+, 1\]",
        loss="nn.functional.cross_entropy(outputs, labels, reduction='none')[:, None]",
    ),
    task(
        "loss is a tuple",
        "to return a tensor of one loss .*found tuple",
        loss="(nn.functional.cross_entropy(outputs, labels, reduction='none'), 0)",
    ),
    task(
        "loss without gradient",
        "expected",
        loss="nn.functional.cross_entropy(outputs.detach(), labels, reduction='none')",
    ),
    task(
        "loss raises",
        r"the loss of task 'own' .*found KeyError: 'label' at .*own\.py:\d+ \(called on outputs float",
        loss="{}['label']",
    ),
    task(
        "loss negative (not a likelihood)",
        "expected",
        loss="nn.functional.cross_entropy(outputs, labels, reduction='none') - 3",
    ),
    task(
        "loss of another shape of labels",
        r"the loss of task 'own' .*found ValueError: Using a target size",
        loss="nn.functional.binary_cross_entropy(outputs, labels, reduction='none')",
    ),
]

TRAINING = [
    training("returns_none", "train"),
    training("returns_a_module", "train"),
    training("returns_other_names", "expected"),
    training("returns_another_shape", "expected"),
    training("returns_nan", "expected"),
    training("returns_numpy", "expected"),
    training("is_a_generator", "train"),
    training("raises", rf"found ValueError: halfway through at {AT} \(called on task Task, data .*Set of 60 rows\)"),
    training("raises_what_cannot_travel", rf"found UntravelledError: no way at {AT}"),
    training("exits", rf"found sys\.exit\(0\) at {AT}"),
]

CASES = [*SETTING_UP, *MODELS, *INPUTS_AND_LOSSES, *TRAINING]
