"""What a training is asked: whether that is complete, and its command line."""

from dataclasses import dataclass, field

from E2ENetSegmentationLib.i18n import tr as _

QUICK, THOROUGH = "quick", "thorough"


@dataclass(frozen=True)
class TrainParameters:
    """Arguments of `e2enet train`.

    Attributes:
        dataset: A folder in nnU-Net's raw layout.
        output: The bundle to write.
        start: Name or path of the bundle to start from, or "" for scratch.
        network: From scratch: e2enet, omnia, ds or dx.
        transfer: What a bundle of slices becomes before it trains: e2enet, ds or dx; "" keeps it.
        epochs, iterations: Length of the training and of an epoch.
        learningRate: Initial learning rate.
        sparsity: Share of connections that are dead; only from scratch, a bundle keeps its own.
        evolveEvery: Iterations between evolutions; 0 leaves it to the engine.
        fold: "all", or the number of a fold: of the dataset's splits_final.json, or of five.
        resume: Go on from the checkpoint in the run folder.
        extra: Further arguments, for tests and experts.
    """

    dataset: str
    output: str
    start: str = ""
    network: str = "e2enet"
    transfer: str = ""
    epochs: int = 20
    iterations: int = 50
    learningRate: float = 0.001
    sparsity: float = 0.8
    evolveEvery: int = 0
    fold: str = "all"
    device: str = "auto"
    resume: bool = False
    extra: tuple = field(default=())

    def isValid(self):
        """(True, "") or (False, why not)."""
        checks = [
            (self.dataset, _("Choose training cases or a dataset folder.")),
            (self.output, _("Give the new model a name.")),
            (self.epochs >= 1, _("A training has at least one epoch.")),
            (self.iterations >= 1, _("An epoch has at least one iteration.")),
            (self.learningRate > 0, _("The learning rate is above zero.")),
            (0 <= self.sparsity < 1, _("The sparsity is at least 0 and below 1.")),
        ]
        for passed, reason in checks:
            if not passed:
                return False, reason
        return True, ""

    def toArguments(self, begun: bool = False) -> list:
        """The command line; of a run that has begun its checkpoint is all it starts from."""
        arguments = ["train", self.dataset, "--output", self.output]
        if not self.start:
            arguments += ["--network", self.network, "--sparsity", f"{self.sparsity:g}"]
        elif not begun:
            arguments += ["--from", self.start]
        arguments += ["--fold", self.fold, "--epochs", str(self.epochs)]
        arguments += ["--iterations-per-epoch", str(self.iterations)]
        arguments += ["--lr", f"{self.learningRate:g}", "--device", self.device]
        if self.evolveEvery:
            arguments += ["--evolve-every", str(self.evolveEvery)]
        if self.resume:
            arguments += ["--resume"]
        return [*arguments, *map(str, self.extra)]


def effortDefaults(effort: str, fromScratch: bool) -> dict:
    """Epochs, iterations and learning rate of the two choices.

    From scratch the recipe's own rate (0.01, nnU-Net's); fine-tuning starts lower, so that what was
    learnt is not washed out.
    """
    rate = 0.01 if fromScratch else 0.001
    epochs = {
        (QUICK, False): 20,
        (THOROUGH, False): 100,
        (QUICK, True): 50,
        (THOROUGH, True): 500,
    }[effort, fromScratch]
    iterations = 50 if effort == QUICK else 100
    return {"epochs": epochs, "iterations": iterations, "learningRate": rate}
