"""Two and four processes with one global batch: the gradients, the order, the metrics of one process."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import four_ranks
import pytest
import torch
from tiny_study import Bench

from raresight import cli_output
from raresight.core.errors import ConfigError
from raresight.core.launched import launched, silent
from raresight.core.run import RunFolder
from raresight.train import journal as journal_module
from raresight.train.checkpoint import Progress, load_resume, save_resume
from raresight.train.journal import Journal
from raresight.train.meeting import meeting
from raresight.train.ranks import ALONE, Ranks
from raresight.train.ranks_trouble import refuse_small

WORLDS = (2, 4)
EQUAL = [name for name in four_ranks.SCENES if not name.startswith("batch norm")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which four processes wrote down what they saw."""
    folder = tmp_path_factory.mktemp("ranks")
    assert four_ranks.started(folder) == [0, 0, 0, 9]
    return folder


def told(ran: Path, world: int) -> list[dict[str, Any]]:
    return [torch.load(ran / f"of {world}" / f"rank {rank}.pt", weights_only=False) for rank in range(world)]


def alone(ran: Path) -> dict[str, Any]:
    result: dict[str, Any] = torch.load(ran / "alone.pt", weights_only=False)
    return result


@pytest.mark.parametrize("scene", EQUAL)
@pytest.mark.parametrize("world", WORLDS)
def test_the_gradients_are_those_of_one_process(ran: Path, world: int, scene: str) -> None:
    one = alone(ran)[scene]
    assert one["gradients"].abs().max() > 0.01  # so that 1e-5 says something
    for rank in told(ran, world):
        assert (rank[scene]["gradients"] - one["gradients"]).abs().max() < 1e-5
        assert (rank[scene]["weights"] - one["weights"]).abs().max() < 1e-5
        assert abs(rank[scene]["loss"] - one["loss"]) < 1e-5


@pytest.mark.parametrize("scene", list(four_ranks.SCENES))
@pytest.mark.parametrize("world", WORLDS)
def test_all_ranks_go_on_with_the_same_network_bit_for_bit(ran: Path, world: int, scene: str) -> None:
    first, *others = (rank[scene] for rank in told(ran, world))
    for rank in others:
        assert all(torch.equal(rank[key], first[key]) for key in ("gradients", "weights", "buffers", "loss"))


@pytest.mark.parametrize("scene", list(four_ranks.SCENES))
@pytest.mark.parametrize("world", WORLDS)
def test_every_rank_observes_the_whole_batch_in_its_order(ran: Path, world: int, scene: str) -> None:
    one = alone(ran)[scene]
    for rank in told(ran, world):
        assert torch.equal(rank[scene]["seen"], one["seen"])
        assert rank[scene]["per_case"].shape == one["per_case"].shape
        if scene in EQUAL:
            assert torch.allclose(rank[scene]["per_case"], one["per_case"], atol=1e-5)


def test_batch_normalisation_sees_a_share_and_its_statistics_are_the_mean_over_the_shares(ran: Path) -> None:
    """One step's running mean of layer 1 is that of the whole batch; the gradients are another network's."""
    one, two = alone(ran)["batch norm"], told(ran, 2)[0]["batch norm"]
    assert (two["gradients"] - one["gradients"]).abs().max() > 1e-3
    # The order of the buffers: mean, std (3 each), then running_mean (8), running_var (8), n of the first layer.
    means = slice(6, 14)
    assert torch.allclose(two["buffers"][means], one["buffers"][means], atol=0.02)
    assert two["buffers"][22] == one["buffers"][22] == four_ranks.STEPS


@pytest.mark.parametrize("world", WORLDS)
def test_metrics_of_equal_weights_are_exactly_equal(ran: Path, world: int) -> None:
    """The batches are those of one process: the features, and so the logits and metrics, are the same bits."""
    for rank in told(ran, world):
        assert torch.equal(rank["features"], alone(ran)["features"])


@pytest.mark.parametrize("world", WORLDS)
def test_training_begins_from_rank_0s_weights_and_buffers(ran: Path, world: int) -> None:
    """The others need not fetch published weights: statistics of batch normalisation come with them."""
    for rank in told(ran, world):
        assert torch.equal(rank["copied"], alone(ran)["copied"])


@pytest.mark.parametrize("backbone", ["test_convnext", "test_resnet"])
@pytest.mark.parametrize("world", WORLDS)
def test_a_run_draws_the_samples_of_one_process(ran: Path, world: int, backbone: str) -> None:
    one = alone(ran)[backbone]
    for rank in told(ran, world):
        assert rank[backbone]["ids"] == one["ids"]


@pytest.mark.parametrize("world", WORLDS)
def test_a_run_averages_and_scores_like_one_process(ran: Path, world: int) -> None:
    """SGD with SAM, mixup, a sampler and EMA over 8 steps, layers normalised by themselves."""
    one, ranks = alone(ran)["test_convnext"], [rank["test_convnext"] for rank in told(ran, world)]
    for rank in ranks:
        assert torch.equal(rank["average"], ranks[0]["average"])
        assert torch.allclose(rank["average"], one["average"], atol=1e-4)
    events, expected = (
        [json.loads(line) for line in text.splitlines()] for text in (ranks[0]["events"], one["events"])
    )
    assert [event["step"] for event in events] == [event["step"] for event in expected]
    for event, other in zip(events, expected, strict=True):
        assert event["loss"] == pytest.approx(other["loss"], abs=1e-4)
        assert event["score"] == pytest.approx(other["score"], abs=0.1)


@pytest.mark.parametrize("world", WORLDS)
def test_rank_0_acts_and_all_hear_of_it(ran: Path, world: int) -> None:
    for rank in told(ran, world):
        assert rank["answer"] == "of rank 0"
        assert rank["nested"] == 10
        assert rank["error"].startswith("GateError: RS-X00 rank 0 found it")
        assert rank["agreed"].startswith("ConfigError: RS-X01 met by 1")
        assert rank["content"] == "nothing"


@pytest.mark.parametrize("world", WORLDS)
def test_a_folder_that_is_not_shared_and_weights_that_differ_are_refused_everywhere(ran: Path, world: int) -> None:
    for rank in told(ran, world):
        assert (rank["shared"], rank["equal"]) == ("nothing", "nothing")
        assert "RS-R45" in rank["apart"] and "rank 1 (on" in rank["apart"]
        assert "RS-R47" in rank["unequal"]
    assert not list(ran.glob("of */.shared*"))


def test_a_rank_that_is_gone_is_told_with_the_way_to_go_on(ran: Path) -> None:
    for rank in range(3):
        said = (ran / f"lost {rank}").read_text(encoding="utf-8")
        assert "RS-R47" in said and "one of the 4 processes is gone" in said and "same torchrun command" in said


def test_processes_that_are_started_again_do_not_meet_those_that_died() -> None:
    """The store still holds the words of a start before; twice in a row, the name is another one."""
    store = torch.distributed.HashStore()
    names = []
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            late = [pool.submit(meeting, store, rank, 3) for rank in (0, 2, 1)]
            together = {future.result(timeout=60) for future in late}
        assert len(together) == 1
        names += together
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("n", "world", "shares"),
    [(10, 4, [3, 2, 3, 2]), (8, 4, [2, 2, 2, 2]), (1, 2, [1, 0]), (3, 4, [1, 1, 1, 0]), (0, 2, [0, 0]), (7, 1, [7])],
)
def test_shares_are_contiguous_and_nearly_equal(n: int, world: int, shares: list[int]) -> None:
    """By hand: rank r of W begins at ceil(n r / W)."""
    parts = [Ranks(rank, world).share(n) for rank in range(world)]
    assert [len(part) for part in parts] == shares
    assert [row for part in parts for row in part] == list(range(n))
    assert Ranks(0, world).share(n, world - 1) == parts[-1]


def test_a_batch_smaller_than_the_ranks_is_refused() -> None:
    refuse_small(4, 4)
    with pytest.raises(ConfigError, match="a batch of 3 for 4 processes"):
        refuse_small(3, 4)


def test_alone_nothing_is_asked_of_others(tmp_path: Path) -> None:
    model = four_ranks.network(four_ranks.batch_normalised)
    before = torch.cat([buffer.flatten() for buffer in model.buffers()])
    ALONE.mean_buffers(model, 1, 3)
    ALONE.require_equal(model)
    ALONE.require_shared(tmp_path / "nowhere")
    ALONE.serve(torch.device("cpu"))
    assert ALONE.first(lambda: 3) == 3
    assert torch.equal(torch.cat([buffer.flatten() for buffer in model.buffers()]), before)


@pytest.mark.parametrize("rank", [0, 1])
def test_statistics_are_weighed_by_rows_and_other_buffers_are_those_of_rank_0(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a rank with 3 of 4 rows brings to the sum: three quarters of its statistics; of the rest all or nothing."""
    monkeypatch.setattr(Ranks, "sum_", lambda self, values: values)
    model = torch.nn.BatchNorm1d(2)
    model.register_buffer("other", torch.tensor([8.0]))
    model.running_mean.copy_(torch.tensor([4.0, -8.0]))  # type: ignore[union-attr]
    model.num_batches_tracked.fill_(5)  # type: ignore[union-attr]
    Ranks(rank, 2).mean_buffers(model, 3, 4)
    assert model.running_mean.tolist() == [3.0, -6.0]  # type: ignore[union-attr]
    assert model.running_var.tolist() == [0.75, 0.75]  # type: ignore[union-attr]
    kept = 1 - rank
    assert (int(model.num_batches_tracked), model.other.tolist()) == (5 * kept, [8.0 * kept])  # type: ignore


@pytest.mark.parametrize("rank", [0, 1])
def test_between_evaluations_the_leading_rank_alone_reads_losses_off_the_clock(
    rank: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a clock of its own: another rank would end by itself, and rank 0 tell of a process that is gone."""
    monkeypatch.setattr(journal_module, "RESUME_SECONDS", 0.0)
    run = RunFolder(bench.folder / "run", "focal", 0)
    stack = four_ranks.Stack([], bench.config.problem)
    journal = Journal(run, stack, bench.config, {}, None, Ranks(rank, 2))
    journal.progress.step = 1
    journal._unread.append(torch.tensor(torch.nan))
    model = four_ranks.network(four_ranks.grouped)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    with nullcontext() if rank else pytest.raises(ConfigError, match="RS-R46"):
        journal.save(model, optimiser, evaluated=False)
    with pytest.raises(ConfigError, match="RS-R46"):  # all read them before an evaluation
        journal.save(model, optimiser, evaluated=True)


def _resumed(bench: Bench, then: dict[str, Any], now: dict[str, Any], *, finished: bool) -> Any:
    run = RunFolder(bench.folder / "run", "focal", 0)
    model = four_ranks.network(four_ranks.grouped)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    state = () if finished else (model, optimiser, four_ranks.Stack([], bench.config.problem))
    save_resume(run.resume, {"a": 1} | then, Progress(), *state)
    return load_resume(run.resume, {"a": 1} | now, run)


@pytest.mark.parametrize(("then", "now"), [({"ranks": 2}, {"ranks": 4}), ({}, {"ranks": 4}), ({"ranks": 2}, {})])
def test_a_run_goes_on_with_as_many_ranks_as_it_began_with(bench: Bench, then: Any, now: Any) -> None:
    with pytest.raises(ConfigError, match="RS-R44") as caught:
        _resumed(bench, then, now, finished=False)
    (problem,) = caught.value.problems
    assert f"begun by {then.get('ranks', 1)} and would go on with {now.get('ranks', 1)} processes" in problem.found
    assert "batch normalisation" in problem.why
    assert ("torchrun --nproc-per-node 2" in problem.remedy) == (then == {"ranks": 2})
    assert _resumed(bench, then, then, finished=False)["finished"] is False
    assert _resumed(bench, then, now, finished=True)["finished"] is True  # nothing is left to train


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launched() is None  # somebody else's variables
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    place = launched()
    assert place is not None
    assert (place.rank, place.world, place.local, place.local_world) == (3, 4, 1, 2)
    assert silent()
    monkeypatch.setenv("RANK", "0")
    assert not silent()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched() is None


@pytest.mark.parametrize("arguments", [["run", "s"], ["train", "s", "--dry-run"], ["train", "s", "--on", "ray"], []])
def test_several_processes_only_train(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cli_output.refuse_several(arguments)
    names = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    cli_output.refuse_several(["train", "s", "--arm", "a"])
    with pytest.raises(ConfigError, match="torchrun started 2 processes"):
        cli_output.refuse_several(arguments)


def test_another_rank_speaks_only_of_what_it_met_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It waits for torchrun to stop it; here nobody does."""
    waited: list[float] = []
    monkeypatch.setattr(cli_output.time, "sleep", waited.append)
    cli_output.trouble("RS-C03 missing")
    assert capsys.readouterr().err == "RS-C03 missing\n"
    names = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    cli_output.trouble("RS-R45 memory ran out")
    cli_output.answer({}, True, "done")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "process 1: RS-R45 memory ran out\n")
    assert waited == [cli_output.SECONDS_TO_SPEAK]
