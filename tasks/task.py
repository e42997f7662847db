"""A task: fixed splits, a loss, a metric, and what is asked of a net's outputs.

Letters: N samples, C channels, H height, W width, K classes.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from inspect import Parameter, signature
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import UserError
from ..values import Better, Metric
from .data import Augment, Batch, Data
from .metrics import NAMED, ScoreFactory, metric_named, resolve
from .of import task_of
from .outputs import Kind, Selected, aligned, class_axis, classes_second, cross_entropy, is_cross_entropy, prediction_of

Loss = Callable[..., Tensor]
"""Predictions and targets to a scalar, as `F.mse_loss`; a training with label smoothing gives it as a keyword."""
Distillation = Callable[[Any, Any, Any], Tensor]
"""Predictions of a student, those of its teacher (which get no gradient) and targets to a scalar."""
MOST_BATCH = 64
ACCURACY = metric_named("accuracy")


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """Data, loss and metric. The search sees `validation` only; `test`, if any, is for one statement at the end.

    output: which part of what a net returns is its prediction (`outputs.Selected`); None: the net returns nothing else.
    metric: what is searched for. A function, a torchmetrics object or a name is taken, too (see `metrics.resolve`), and
        `score` then follows from it; `metric_name` and `better` say what its name does not.
    score: a new accumulator of the metric for each evaluation.
    terms: weights of the loss terms that a net may leave (`search_space.terms`), by name; others count 1.
    distillation: in the place of the divergence of a training recipe, for outputs that are neither classes nor values.
    outputs, labels: what is predicted, and the names of the classes or tokens.
    vocabulary: how many tokens are told apart, where inputs are tokens; outputs of tokens have as many classes.
    space names the default space preset, `source` says where the data come from, `preprocessing` how inputs are made
    of raw samples, `postprocessing` what outputs say. `mean` and `std` (one value a channel, in the units of the raw
    samples) are the training split's.
    batch_size: for training, where a recipe states none. evaluation_batch: samples of a batch of an evaluation, as many
        as fit in memory with their outputs; activations of 128 to 512 small images stay in the caches of CPUs.

    >>> task = nas.load_task("digits")
    >>> task.example.shape, task.metric.name
    (torch.Size([1, 1, 8, 8]), 'accuracy')
    """

    name: str = "task"
    train: Data
    validation: Data
    test: Data | None = None
    loss: Loss = cross_entropy
    metric: Metric = ACCURACY
    score: ScoreFactory = NAMED["accuracy"]
    output: Selected = None
    outputs: Kind | None = None
    labels: tuple[str, ...] = ()
    vocabulary: int = 0
    terms: Mapping[str, float] = field(default_factory=dict)
    distillation: Distillation | None = None
    space: str = ""
    source: str = ""
    preprocessing: str = ""
    postprocessing: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: Augment | None = None
    batch_size: int | None = None
    evaluation_batch: int = 256
    inferred: bool = False
    """Whether the direction of the metric is only what its name says."""
    metric_name: InitVar[str] = ""
    better: InitVar[Better | None] = None

    def __post_init__(self, metric_name: str, better: Better | None) -> None:
        given: Any = self.metric
        if not isinstance(given, Metric):
            metric, score, inferred = resolve(given, metric_name, better)
        elif metric_name or better:
            metric, score, inferred = metric_named(metric_name or given.name, better), self.score, better is None
        else:
            return
        for name, value in (("metric", metric), ("score", score), ("inferred", inferred)):
            object.__setattr__(self, name, value)

    of = classmethod(task_of)

    # What a net is called with

    @cached_property
    def _first(self) -> Batch:
        for batch in self.train.batches(min(MOST_BATCH, self.train.size or 1)):
            return batch
        raise UserError(f"the training split of task {self.name!r} is empty")

    def example_of(self, rows: int) -> Any:
        """Inputs of `rows` samples: the first of the training split, again and again where there are fewer."""
        inputs = self._first[0]
        have = len(tree_leaves(inputs)[0])
        return tree_map(lambda t: t[torch.arange(rows) % have] if isinstance(t, Tensor) else t, inputs)

    @property
    def example(self) -> Any:
        """Inputs of a batch of one: the first training sample."""
        return self.example_of(1)

    def calibration_inputs(self, samples: int) -> Any:
        """Inputs of at most `samples` training samples, without augmentation, in the order of epoch 0 of seed 0."""
        return self.batch(0, min(samples, self.train.size or samples), seed=0, augment=False)[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch dimension: (C, H, W) for images. () where a net has several inputs."""
        inputs = self._first[0]
        return tuple(inputs.shape[1:]) if isinstance(inputs, Tensor) else ()

    @property
    def classes(self) -> int:
        """K: the outputs of a net for each answer; of values as many as there are in a target."""
        if self.labels or self.outputs == "tokens":
            return len(self.labels) or self.vocabulary
        targets = self._first[1]
        return targets[0].numel() if isinstance(targets, Tensor) and targets.is_floating_point() else 0

    @property
    def interface(self) -> dict[str, Any]:
        """What a space function may ask about: `input_shape`, `classes` and, of tokens, `vocabulary`."""
        return {"input_shape": self.input_shape, "classes": self.classes, "vocabulary": self.vocabulary}

    # Training batches

    def batch_size_for(self, stated: int | None) -> int:
        """The batch size of a training: as stated, or the task's own. Error: more than there are samples."""
        most = self.train.size
        size = stated or self.batch_size or MOST_BATCH
        if stated is not None and most is not None and stated > most:
            raise UserError(f"batch size {stated} must be between 1 and the {most} training samples; set batch_size")
        return size if most is None else min(size, most)

    def batch(self, step: int, batch_size: int, seed: int, augment: bool = True) -> Batch:
        """Inputs and targets of training step `step` (from 0).

        A pure function of its arguments: a training that resumes at a step sees the batches that an undisturbed one
        sees, and no random state has to be stored.
        """
        return self.train.training_batch(step, batch_size, seed, self.augment if augment else None)

    # What is asked of a net's outputs

    def prediction(self, outputs: Any) -> Any:
        """The part of a net's outputs that is compared with targets."""
        return prediction_of(outputs, self.output)

    def targets_for(self, prediction: Any, targets: Any) -> Any:
        """Targets on the device of the prediction, in its shape where they have as many values."""
        leaves = [t for t in tree_leaves(prediction) if isinstance(t, Tensor)]
        moved = tree_map(lambda t: t.to(leaves[0].device) if isinstance(t, Tensor) and leaves else t, targets)
        return aligned(moved, prediction)

    def class_axis(self, prediction: Any, targets: Any) -> int | None:
        """The dimension of a prediction that holds the logits of classes; None if it holds other values."""
        if self.outputs in ("values", "boxes", "embeddings"):
            return None
        return class_axis(prediction, targets, self.loss)

    def loss_of(self, prediction: Any, targets: Any, label_smoothing: float = 0.0) -> Tensor:
        """The loss of a batch, a scalar. Error: label smoothing for a loss that takes none."""
        smoothing = {}
        if label_smoothing:
            if not self.takes_label_smoothing:
                raise UserError(
                    f"label_smoothing is {label_smoothing:g}, but the loss of task {self.name!r} takes no "
                    "label_smoothing; leave it at 0"
                )
            smoothing = {"label_smoothing": label_smoothing}
        if self.loss is not cross_entropy and is_cross_entropy(self.loss) and isinstance(prediction, Tensor):
            prediction = classes_second(prediction, targets)
        loss = self.loss(prediction, targets, **smoothing)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(f"the loss of task {self.name!r} must return a tensor of one number, got {shape}")
        return loss

    @property
    def takes_label_smoothing(self) -> bool:
        """Whether the loss has a keyword `label_smoothing`."""
        function = self.loss.forward if isinstance(self.loss, nn.Module) else self.loss
        parameters = signature(function).parameters.values()
        return any(p.name == "label_smoothing" or p.kind is Parameter.VAR_KEYWORD for p in parameters)

    def with_terms(self, loss: Tensor, left: Mapping[str, Tensor]) -> Tensor:
        """The loss and the weighted terms that a net left, by name."""
        return loss + sum(self.terms.get(name, 1.0) * value for name, value in left.items()) if left else loss

    # Data

    @cached_property
    def digest(self) -> str:
        """Identity of data and metric: names and sizes, the first validation samples and training targets.

        Training inputs may be augmented by chance, and a stream may have an order of its own: neither counts.
        """
        content = hashlib.sha256(repr((self.name, self.metric, self.train.size, self.validation.size)).encode())
        samples = [self._first[1]] if self.train.size else []
        samples += list(islice(self.validation.batches(MOST_BATCH), 1)) if self.validation.size else []
        for tensor in tree_leaves(samples):
            if isinstance(tensor, Tensor):
                content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return content.hexdigest()[:16]

    def subset(self, train: int | None = None, validation: int | None = None, test: int | None = None) -> "Task":
        """The task with fewer samples: the first of a fixed shuffle, so that a smaller subset lies in a larger one."""
        return replace(
            self,
            train=self.train if train is None else self.train.first(train),
            validation=self.validation if validation is None else self.validation.first(validation),
            test=self.test if test is None or self.test is None else self.test.first(test),
        )
