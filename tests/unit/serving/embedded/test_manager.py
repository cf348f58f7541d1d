from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.embedded import versions
from serving.embedded.batcher import NaturalBatcher
from serving.embedded.config import ModelConfig
from serving.embedded.errors import Code, ServingError
from serving.embedded.manager import Manager, ManagerOptions
from serving.embedded.versions import ModelSpec, State
from tests.unit.serving.embedded.fakemodel import FakeModel, rows, signature

LOADED: list[FakeModel]


def load(name: str, version: int, path: Path) -> FakeModel:
    if (path / "corrupt").exists():
        raise ServingError(Code.DATA_LOSS, f"Can't parse {path}/saved_model.pb as binary proto")
    model = FakeModel(name, version)
    LOADED.append(model)
    return model


def run(scenario: Callable[[Manager], Awaitable[None]], **options: object) -> None:
    global LOADED  # noqa: PLW0603
    LOADED = []

    async def main() -> None:
        settings = {"poll_wait_s": 0.01, "max_num_load_retries": 0, "load_retry_interval_s": 0.01, **options}
        manager = Manager(
            load,
            lambda model: NaturalBatcher(model, executor),
            executor,
            ManagerOptions(**settings),  # type: ignore[arg-type]
        )
        try:
            await scenario(manager)
        finally:
            await manager.stop()

    with ThreadPoolExecutor(2) as executor:
        asyncio.run(main())


def make(base: Path, *numbers: object) -> Path:
    for number in numbers:
        (base / str(number)).mkdir(parents=True)
    return base


def config(base: Path, **settings: object) -> ModelConfig:
    return ModelConfig(name="m", base_path=str(base), **settings)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def latest(manager: Manager) -> int:
    return int(manager.find(ModelSpec(name="m")).model.version)


def states(manager: Manager) -> dict[int, State]:
    return {status.version: status.state for status in manager.statuses("m", None)}


def test_the_latest_version_is_served_and_others_are_refused(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, "007", "notes", "-3")
    (tmp_path / "12").write_text("a file")

    async def scenario(manager: Manager) -> None:
        await manager.start([config(tmp_path)])
        assert latest(manager) == 7
        assert states(manager) == {7: State.AVAILABLE}
        for spec, told in (
            (ModelSpec(name="m", version=1), r"Servable not found for request: Specific\(m, 1\)"),
            (ModelSpec(name="x"), r"Servable not found for request: Latest\(x\)"),
            (ModelSpec(name=""), "ModelSpec has no name specified."),
            (ModelSpec(name="m", label="nope"), "Unrecognized servable version label: nope"),
        ):
            with pytest.raises(ServingError, match=told):
                manager.find(spec)

    run(scenario)


def test_a_new_version_takes_over_and_the_old_one_ends(tmp_path: Path) -> None:
    make(tmp_path, 1)

    async def scenario(manager: Manager) -> None:
        await manager.start([config(tmp_path)])
        make(tmp_path, 2)
        await until(lambda: latest(manager) == 2)
        await until(lambda: states(manager) == {2: State.AVAILABLE, 1: State.END})
        assert LOADED[0].closed
        shutil.rmtree(tmp_path / "2")
        await until(lambda: states(manager) == {2: State.END, 1: State.AVAILABLE})
        shutil.rmtree(tmp_path / "1")
        await until(lambda: states(manager) == {2: State.END, 1: State.END})
        with pytest.raises(ServingError, match=r"Latest\(m\)"):
            latest(manager)
        make(tmp_path, 2)
        await until(lambda: states(manager)[2] is State.AVAILABLE)

    run(scenario)


def test_a_version_is_not_closed_under_a_request(tmp_path: Path) -> None:
    make(tmp_path, 1)

    async def scenario(manager: Manager) -> None:
        await manager.start([config(tmp_path)])
        with manager.find(ModelSpec(name="m")) as served:
            make(tmp_path, 2)
            await until(lambda: latest(manager) == 2)
            await asyncio.sleep(0.05)
            assert not LOADED[0].closed
            (y,) = await served.batcher.submit(signature(), rows(1), ("y",))
            assert y.tolist() == [2.5]
        await until(lambda: LOADED[0].closed)

    run(scenario)


def test_a_corrupt_new_version_costs_nothing(tmp_path: Path) -> None:
    make(tmp_path, 1)

    async def scenario(manager: Manager) -> None:
        await manager.start([config(tmp_path)])
        make(tmp_path, "2/corrupt")
        await until(lambda: states(manager).get(2) is State.END)
        await asyncio.sleep(0.05)
        assert latest(manager) == 1
        status = manager.statuses("m", 2)[0]
        assert (status.code, "as binary proto" in status.message) == (Code.DATA_LOSS, True)
        assert len(LOADED) == 1
        shutil.rmtree(tmp_path / "2")
        await until(lambda: not manager._models["m"].failed)  # a poll has seen that it is gone
        make(tmp_path, 2)
        await until(lambda: latest(manager) == 2)

    run(scenario, max_num_load_retries=1)


def test_a_missing_base_path_later_keeps_what_is_loaded(tmp_path: Path) -> None:
    base = make(tmp_path / "m", 1)

    async def scenario(manager: Manager) -> None:
        await manager.start([config(base)])
        shutil.rmtree(base)
        await asyncio.sleep(0.05)
        assert latest(manager) == 1

    run(scenario)


def test_the_start_waits_for_a_version_and_fails_on_a_corrupt_one(tmp_path: Path) -> None:
    async def waits(manager: Manager) -> None:
        starting = asyncio.create_task(manager.start([config(tmp_path / "late")]))
        await asyncio.sleep(0.05)
        assert not starting.done()
        make(tmp_path / "late", 3)
        await starting
        assert latest(manager) == 3

    async def fails(manager: Manager) -> None:
        with pytest.raises(ServingError, match="as binary proto"):
            await manager.start([config(make(tmp_path / "bad", "1/corrupt"))])

    run(waits)
    run(fails)


def test_policies(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, 3)

    async def scenario(manager: Manager) -> None:
        await manager.start([config(tmp_path, all_versions=True, labels={"stable": 1})])
        await until(lambda: set(states(manager).values()) == {State.AVAILABLE})
        assert manager.find(ModelSpec(name="m", label="stable")).model.version == 1
        await manager.configure([config(tmp_path, num_latest=2)])
        await until(lambda: states(manager)[1] is State.END)
        await manager.configure([config(tmp_path, specific=(1, 9))])
        await until(lambda: states(manager) == {1: State.AVAILABLE, 2: State.END, 3: State.END})
        await manager.configure([])
        await until(lambda: set(states(manager).values()) == {State.END})

    run(scenario, allow_labels_for_unavailable=True)


def test_labels_of_versions_that_are_not_loaded(tmp_path: Path) -> None:
    make(tmp_path, 1)

    async def scenario(manager: Manager) -> None:
        with pytest.raises(ServingError, match="not currently available") as error:
            await manager.start([config(tmp_path, labels={"a": 1})])
        assert error.value.code is Code.FAILED_PRECONDITION
        await manager.start([config(tmp_path)])
        await manager.configure([config(tmp_path, labels={"a": 1})])
        assert manager.find(ModelSpec(name="m", label="a")).model.version == 1
        with pytest.raises(ServingError, match="not currently available"):
            await manager.configure([config(tmp_path, labels={"a": 2})])

    run(scenario)


def test_a_label_in_force_moves_to_a_version_that_is_not_loaded_only_by_force(tmp_path: Path) -> None:
    make(tmp_path, 1)

    async def allowed(manager: Manager) -> None:
        await manager.start([config(tmp_path, labels={"stable": 1, "next": 9})])
        await manager.configure([config(tmp_path, labels={"stable": 1, "next": 9, "other": 8})])
        with pytest.raises(ServingError, match=r"label to stable version 9 .* not currently available") as error:
            await manager.configure([config(tmp_path, labels={"stable": 9})])
        assert error.value.code is Code.FAILED_PRECONDITION
        assert manager.find(ModelSpec(name="m", label="stable")).model.version == 1
        await manager.configure([config(tmp_path)])
        await manager.configure([config(tmp_path, labels={"stable": 9})])  # it is no longer in force
        await manager.configure([config(tmp_path, labels={"stable": 1})])

    async def forced(manager: Manager) -> None:
        await manager.start([config(tmp_path, labels={"stable": 1})])
        await manager.configure([config(tmp_path, labels={"stable": 9})])
        with pytest.raises(ServingError, match=r"Specific\(m, 9\)"):
            manager.find(ModelSpec(name="m", label="stable"))

    run(allowed, allow_labels_for_unavailable=True)
    run(forced, force_labels_for_unavailable=True)


def test_version_folders(tmp_path: Path) -> None:
    make(tmp_path, "1", "007", "x", "1.5", "٣", "9" * 30)
    assert list(versions.folders(tmp_path)) == [7, 1]
    with pytest.raises(OSError, match="missing"):
        versions.folders(tmp_path / "missing")
