"""The training loop: learns, evolves, pauses, and goes on bit for bit."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from e2enet.events import BadInput
from e2enet.networks.normalisation import InstanceNormLeakyReLU
from e2enet.training.loop.checkpoint import load_checkpoint
from e2enet.training.loop.loss import supervised_loss
from e2enet.training.loop.orders import CONTROL
from e2enet.training.loop.trainer import Trainer

from ..conftest import Recorder, assert_same

Make = Callable[..., Trainer]


@pytest.fixture
def finished(make_trainer: Make) -> dict[str, Any]:
    """The state of a run that nothing disturbed."""
    trainer = make_trainer("undisturbed")
    assert trainer.run() == "finished"
    return load_checkpoint(trainer.checkpoint)


def test_it_learns(make_trainer: Make) -> None:
    trainer = make_trainer(epochs=6, iterations_per_epoch=12, period=20)
    trainer.run()
    assert trainer.rows[-1]["loss"] < 0.6 * trainer.rows[0]["loss"]
    assert trainer.rows[-1]["mean_dice"] > 0.5


def test_live_connections_never_change_in_number_and_dead_ones_are_zero(
    make_trainer: Make,
) -> None:
    trainer = make_trainer(sparsity=0.6)
    live = trainer.connections.live
    before = {name: mask.clone() for name, mask in trainer.connections.masks.items()}
    trainer.run()
    assert {row["live"] for row in trainer.rows} == {live}
    evolved = [e["iteration"] for e in trainer.evolution.history if e["turnover"] is not None]
    assert evolved == [3, 6, 9, 12]
    changed = 0
    for name, mask in trainer.connections.masks.items():
        weight = trainer.connections.layers[name].module.weight
        assert not weight.detach()[~mask].any()
        assert not trainer.optimizer.state[weight]["momentum_buffer"][~mask].any()
        changed += int((mask != before[name]).sum())
    assert changed


def test_history_has_the_start_and_the_end(make_trainer: Make) -> None:
    trainer = make_trainer()
    trainer.run()
    iterations = [entry["iteration"] for entry in trainer.evolution.history]
    assert iterations == [0, 3, 6, 9, 12, 16]


def test_events(make_trainer: Make, recorder: Recorder) -> None:
    make_trainer(reporter=recorder).run()
    progress = recorder.of("progress")
    assert progress[0] == ("training", 0, 16)
    assert progress[-1] == ("training", 16, 16)
    epochs = recorder.of("metric")
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4]
    last = epochs[-1]
    assert set(last["dice"]) == {"block", "bar"}
    assert last["lr"] == pytest.approx(0.02 * 0.25**0.9)
    assert {"loss", "zeta", "live", "mean_dice"} <= set(last)


@pytest.mark.parametrize("at", [0, 3, 4, 9])
def test_a_pause_at_any_iteration_changes_nothing(
    make_trainer: Make, finished: dict[str, Any], at: int
) -> None:
    first = make_trainer("paused")
    if at:
        _order_at(first, at, "pause")
    else:
        (first.folder / CONTROL).write_text("pause\n")
    assert first.run() == "paused"
    assert first.iteration == at
    assert not (first.folder / CONTROL).exists()
    second = make_trainer("paused")
    second.restore()
    assert second.iteration == at
    assert second.run() == "finished"
    assert_same(load_checkpoint(second.checkpoint), finished)


def test_adamw_learns_and_goes_on_after_a_pause_as_if_it_had_not_stopped(
    make_trainer: Make,
) -> None:
    recipe = {"optimizer": "adamw", "lr": 0.005, "warmup": 4}
    whole = make_trainer("whole", **recipe)
    whole.run()
    assert whole.rows[-1]["loss"] < 0.95 * whole.rows[0]["loss"]
    weight = next(iter(whole.connections.layers.values())).weight
    dead = ~next(iter(whole.connections.masks.values()))
    moments = whole.optimizer.state[weight]
    assert dead.any()
    for name in ("exp_avg", "exp_avg_sq"):
        assert not moments[name][dead].any()
        assert moments[name][~dead].any()

    first = make_trainer("paused", **recipe)
    _order_at(first, 5, "pause")
    first.run()
    second = make_trainer("paused", **recipe)
    second.restore()
    second.run()
    assert_same(load_checkpoint(second.checkpoint), load_checkpoint(whole.checkpoint))


def test_the_optimiser_belongs_to_the_recipe(make_trainer: Make) -> None:
    make_trainer("one", epochs=1).run()
    other = make_trainer("one", epochs=1, optimizer="adamw")
    with pytest.raises(BadInput, match="another training recipe"):
        other.restore()


def test_stop_is_told_from_pause(make_trainer: Make) -> None:
    trainer = make_trainer()
    _order_at(trainer, 2, "stop")
    assert trainer.run() == "stopped"
    assert load_checkpoint(trainer.checkpoint)["iteration"] == 2


def test_a_control_file_that_is_still_being_written_is_left_alone(make_trainer: Make) -> None:
    trainer = make_trainer(epochs=1)
    (trainer.folder / CONTROL).write_text("pau")
    assert trainer.run() == "finished"
    assert (trainer.folder / CONTROL).exists()


def test_workers_do_not_change_the_result(make_trainer: Make, finished: dict[str, Any]) -> None:
    trainer = make_trainer("workers", workers=2)
    trainer.run()
    assert_same(load_checkpoint(trainer.checkpoint), finished)


def test_training_leaves_the_global_random_state_alone(make_trainer: Make) -> None:
    trainer = make_trainer(epochs=1)
    before = torch.get_rng_state()
    trainer.run()
    assert torch.equal(torch.get_rng_state(), before)


def spoiled(trainer: Trainer, *iterations: int) -> Trainer:
    """The trainer, given images that are no numbers at some iterations."""
    step = trainer.step

    def stepping(image: torch.Tensor, label: torch.Tensor, epoch: int) -> float:
        if trainer.iteration in iterations:
            image = torch.full_like(image, math.nan)
        return step(image, label, epoch)

    trainer.step = stepping  # type: ignore[method-assign]
    return trainer


def test_a_step_whose_loss_is_not_finite_is_left_out(
    make_trainer: Make, recorder: Recorder
) -> None:
    trainer = spoiled(make_trainer(reporter=recorder, period=0), 5, 6)
    kept: list[dict[str, Any]] = []
    step = trainer.step

    def watched(image: torch.Tensor, label: torch.Tensor, epoch: int) -> float:
        if trainer.iteration in (5, 7):  # before the two, and after them
            state = trainer.state_dict()
            kept.append(
                copy.deepcopy({key: state[key] for key in ("network", "optimizer", "masks")})
            )
        return step(image, label, epoch)

    trainer.step = watched  # type: ignore[method-assign]
    assert trainer.run() == "finished"
    assert_same(*kept)
    assert [row["left_out"] for row in trainer.rows] == [0, 2, 0, 0]
    assert all(math.isfinite(row["loss"]) for row in trainer.rows)
    assert [code for code, _ in recorder.of("warning")] == ["step-left-out"]
    assert "iteration 6 " in recorder.of("warning")[0][1]


def test_a_gradient_that_is_not_finite_is_left_out(make_trainer: Make) -> None:
    trainer = make_trainer(epochs=1, iterations_per_epoch=2)
    weight = trainer.network.heads[0].weight
    hook = weight.register_hook(lambda grad: torch.full_like(grad, math.inf))
    before = weight.detach().clone()
    trainer.run()
    hook.remove()
    assert torch.equal(weight, before)
    assert trainer.rows[0]["left_out"] == 2
    assert math.isnan(trainer.rows[0]["loss"])


def test_ten_in_a_row_end_the_run_and_resuming_goes_another_way(make_trainer: Make) -> None:
    bad = range(6, 16)
    with pytest.raises(BadInput, match=r"10 times in a row.* iteration 16") as caught:
        spoiled(make_trainer("run"), *bad).run()
    assert caught.value.code == "diverged"
    assert "after iteration 12 " in caught.value.help
    again = make_trainer("run")
    again.restore()
    assert (again.iteration, again.setbacks, again.left_out_in_a_row) == (12, 1, 0)
    assert not again.optimizer.state
    key = (1, 0, 0)
    assert not torch.equal(again._patches()[key][0], again.training[key][0])
    assert again.run() == "finished"
    calm = make_trainer("calm")
    calm.run()
    assert again.rows[-1]["lr"] == pytest.approx(calm.rows[-1]["lr"] / 2)
    # A second end counts on, and a pause after it changes nothing.
    with pytest.raises(BadInput, match="in a row"):
        spoiled(_restored(make_trainer("other"), setbacks=1), *range(10)).run()
    assert _restored(make_trainer("other")).setbacks == 2


def _restored(trainer: Trainer, *, setbacks: int | None = None) -> Trainer:
    if setbacks is None:
        trainer.restore()
    else:
        trainer.setbacks = setbacks
    return trainer


def test_nine_in_a_row_across_a_pause_and_one_more(make_trainer: Make) -> None:
    first = spoiled(make_trainer("run"), *range(1, 11))
    _order_at(first, 6, "pause")
    assert first.run() == "paused"
    second = spoiled(make_trainer("run"), *range(1, 11))
    second.restore()
    assert second.left_out_in_a_row == 5
    with pytest.raises(BadInput, match="iteration 11"):
        second.run()


def test_a_checkpoint_from_before_steps_were_left_out(make_trainer: Make) -> None:
    trainer = make_trainer()
    state = trainer.state_dict()
    for name in ("left_out", "left_out_in_a_row", "setbacks"):
        del state[name]
    del state["recipe"]["batch_dice"]
    trainer.load_state_dict(state)
    assert (trainer.left_out, trainer.setbacks) == (0, 0)


def test_an_interrupted_run_is_saved(make_trainer: Make, finished: dict[str, Any]) -> None:
    first = make_trainer("run")
    step = first.step

    def interrupted(*args: Any) -> float:
        if first.iteration == 5:
            first.orders.interrupt()
        return step(*args)

    first.step = interrupted  # type: ignore[method-assign]
    assert first.run() == "interrupted"
    second = make_trainer("run")
    second.restore()
    assert second.iteration == 6
    assert second.run() == "finished"
    assert_same(load_checkpoint(second.checkpoint), finished)


def test_a_checkpoint_of_another_recipe_or_network_is_refused(make_trainer: Make) -> None:
    trainer = make_trainer()
    trainer.save()
    other = make_trainer(lr=0.5)
    with pytest.raises(BadInput, match="another training recipe"):
        other.restore()
    state = trainer.state_dict()
    state["network"] = {"x": torch.zeros(1)}
    with pytest.raises(BadInput, match="another network"):
        trainer.load_state_dict(state)


def test_a_label_that_occurs_nowhere_has_no_dice(make_trainer: Make) -> None:
    trainer = make_trainer()
    with torch.no_grad():
        for head in trainer.network.heads:
            head.weight.zero_()
    for case in trainer.validation.cases:
        assert 2 in case.foreground
    blank = [torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 8, 8, 8, dtype=torch.uint8)]
    trainer._validation_batches = [blank]  # type: ignore[assignment]
    assert trainer.validate() == {"block": None, "bar": None}


def test_the_trainer_needs_neither_simpleitk_nor_monai() -> None:
    code = (
        "import sys; sys.modules['SimpleITK'] = sys.modules['monai'] = None\n"
        "import e2enet.training.loop.trainer, e2enet.data.patches.sampling"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _order_at(trainer: Trainer, iteration: int, word: str) -> None:
    """Write the control file once so many iterations are done."""
    step = trainer.step

    def counted(*args: Any) -> float:
        if trainer.iteration + 1 == iteration:
            (trainer.folder / CONTROL).write_text(word)
        return step(*args)

    trainer.step = counted  # type: ignore[method-assign]


def test_half_precision_maps_flow_through_the_network(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_on_a_gpu(norm: InstanceNormLeakyReLU, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(F.instance_norm(x, weight=norm.weight, bias=norm.bias), norm.slope)

    monkeypatch.setattr(InstanceNormLeakyReLU, "forward", as_on_a_gpu)
    trainer = make_trainer()
    image, label = torch.rand(2, 1, 8, 8, 8), torch.ones(2, 8, 8, 8, dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = trainer.network(image)
    assert outputs[0].dtype == torch.bfloat16
    supervised_loss(outputs, label, trainer.weights).backward()
    for name, parameter in trainer.network.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == torch.float32, name
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="mixed precision is for CUDA")
def test_mixed_precision_goes_on_after_a_pause(make_trainer: Make) -> None:
    first = make_trainer("gpu", device="cuda")
    _order_at(first, 6, "pause")
    assert first.run() == "paused"
    second = make_trainer("gpu", device="cuda")
    second.restore()
    assert second.scaler.get_scale() == first.scaler.get_scale()
    assert second.run() == "finished"
    assert second.connections.live == first.connections.live
    assert math.isfinite(second.rows[-1]["loss"])


def test_curves_that_cannot_be_written_do_not_stop_the_training(
    make_trainer: Make, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("e2enet.training.loop.trainer.write_curves", full)
    assert make_trainer(epochs=1, reporter=recorder).run() == "finished"
    assert recorder.of("warning")[0][0] == "curves-not-written"
