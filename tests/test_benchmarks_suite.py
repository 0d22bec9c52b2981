"""The suite, its cases and the runs it is made of, on canned answers; nothing here times anything."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rich")

from rich.console import Console

from benchmarks import alone, cases, layer, limits, memory, readme, report, run, separable, suite
from benchmarks.cases import Case
from benchmarks.peers import OURS, OURS_JAX, PEERS
from benchmarks.runtimes import MissingError
from benchmarks.targets import Target

RATES = ((1000, 80e9), (100_000, 20e9))
LIMITS = limits.Limits(64, 100e9, RATES, RATES)
CASE = Case(6, 5, 3, (3, 2), (2, 1), multiplier=2, batch=2)
SETTINGS = layer.Settings("table", 1, 2, 0.1, 2)


class FakeRuntime:
    """Loads anything, and takes a millisecond if it is ours, else three."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        yield

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        del timeout
        if request["do"] == "load":
            self.log.append(f"{self.name} {request['what']} {request['case']['name']}")
            return {"program": "p", "error": 0.0, "slow_ms": None}
        return {"ms": 1.0 if self.name == OURS else 3.0, "calls": 3}

    def stop(self) -> None:
        self.log.append(f"{self.name} stop")


Faked = Callable[..., list[str]]


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    """Replaces processes, limits and the sections without cases; returns what the runtimes are asked."""

    def fake(missing: Sequence[str] = (), memory_bytes: int = 0) -> list[str]:
        log: list[str] = []

        def start(names: Sequence[str], threads: int, stack: Any) -> Any:
            del threads, stack
            there = [name for name in names if name not in missing]
            runtimes = [FakeRuntime(name, log) for name in there]
            versions = {name: {name: "1.2.3"} for name in there}
            return runtimes, versions, {name: "not here" for name in names if name in missing}

        def measured(threads: int) -> limits.Limits:
            log.append(f"limits {threads}")
            return LIMITS

        monkeypatch.setattr(run, "start", start)
        monkeypatch.setattr(limits, "measure", measured)
        monkeypatch.setattr("benchmarks.data.save", lambda *_: None)
        monkeypatch.setattr("benchmarks.machine.memory_bytes", lambda: memory_bytes)
        return log

    return fake


def timed(chosen: Sequence[Case], names: Sequence[str], **options: Any) -> dict[str, Any]:
    kept: list[int] = []
    result = run.run_cases(
        chosen,
        names,
        SETTINGS,
        Console(file=io.StringIO()),
        lambda found: kept.append(len(found["cases"])),
        **options,
    )
    assert kept == list(range(1, len(chosen) + 1))
    return result


class TestRunCases:
    def test_a_result_has_what_it_was_taken_with_and_an_entry_for_each_case(self, faked: Faked) -> None:
        faked(missing=["jax"])
        result = timed(cases.TABLE[:2], [OURS, "litert", "jax"])
        assert result["settings"] == {"set": "table", "seed": 1, "rounds": 2, "seconds": 0.1, "threads": 2}
        assert result["missing"] == {"jax": "not here"}
        assert set(result["versions"]) == {OURS, "litert"}
        assert [entry["case"]["name"] for entry in result["cases"]] == [case.name for case in cases.TABLE[:2]]
        assert result["cases"][0]["inference"][OURS]["rounds_ms"] == [1.0, 1.0]
        assert result["summary"]["inference"]["ratio"] == pytest.approx(3.0)
        assert result["cases"][0]["floor_ms"]["inference"] > 0
        assert result["cases"][0]["moving_ms"] == limits.moving_ms(cases.TABLE[0].cost, LIMITS)

    def test_a_case_of_ours_alone_follows_each_case_that_has_a_neighbour(self, faked: Faked) -> None:
        log = faked()
        result = timed([CASE], [OURS, "litert"], neighbour=cases.neighbour)
        beside = result["cases"][0]["neighbour"]
        assert beside["case"] == cases.neighbour(CASE).to_json()
        assert set(beside["inference"]) == set(beside["training"]) == {OURS}
        assert beside["inference"][OURS]["ms"] == 1.0
        loads = [line.split()[0] + " " + line.split()[2] for line in log if "inference" in line]
        assert loads == [f"ours {CASE.name}", f"litert {CASE.name}", f"ours {cases.neighbour(CASE).name}"]

    def test_the_machines_limits_are_measured_as_often_as_asked(self, faked: Faked) -> None:
        log = faked()
        timed(cases.TABLE[:5], [OURS], limits_every=2)
        assert log.count("limits 2") == 3

    def test_a_runtime_that_is_demanded_has_to_run(self, faked: Faked) -> None:
        faked(missing=["litert", "jax"])
        with pytest.raises(MissingError, match=r"^LiteRT: not here$"):
            timed([CASE], [OURS, "litert", "jax"], demanded=[OURS, "litert"])

    def test_a_case_too_large_for_all_processes_has_one_after_the_other(self, faked: Faked) -> None:
        held = layer.COPIES * (CASE.cost.bytes_read + CASE.cost.bytes_written)
        for memory_bytes, apart in (
            (math.ceil(2 * held / 0.75), False),
            (math.ceil(2 * held / 0.75) - 1, True),
        ):
            log = faked(memory_bytes=memory_bytes)
            [entry] = timed([CASE], [OURS, "litert"])["cases"]
            assert entry.get("apart", False) is apart
            assert entry["inference"]["litert"]["ms"] == 3.0
            stops = [line for line in log if "stop" in line]
            assert stops == (["ours stop", "litert stop"] * 2 if apart else [])
            if apart:
                assert log.index("litert stop") < log.index(f"ours inference {CASE.name}")
                after = log[log.index(f"ours inference {CASE.name}") :]
                assert after.index("ours stop") < after.index(f"litert inference {CASE.name}")

    def test_unknown_memory_limits_nothing(self) -> None:
        assert not layer.too_large(CASE, 1000, 0)


@pytest.fixture
def sections(faked: Faked, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Fakes for all of a suite; what the sections without cases are asked for."""
    faked()
    asked: list[tuple[str, Any]] = []
    entry = {"program": "p", "bytes": 1, "exact": True}

    def memory_measure(threads: int, *, libraries: Sequence[str]) -> dict[str, Any]:
        asked.append(("memory", (threads, list(libraries))))
        return {
            "case": CASE.to_json(),
            "output_bytes": 1,
            "allowed_bytes": 2,
            "libraries": {OURS: entry},
            "missing": {},
        }

    monkeypatch.setattr(memory, "measure", memory_measure)
    for module, name in ((alone, "alone"), (separable, "separable")):

        def other(threads: int, seconds: float, name: str = name) -> dict[str, Any]:
            asked.append((name, (threads, seconds)))
            return {"of": name}

        def others_targets(result: dict[str, Any]) -> list[Target]:
            return [Target(f"about {result['of']}", "more", "less", False)]

        def others_show(result: dict[str, Any], console: Console) -> None:
            console.print(f"tables of {result['of']}")

        monkeypatch.setattr(module, "measure", other)
        monkeypatch.setattr(module, "show", others_show)
        monkeypatch.setitem(suite.SECTIONS, name, suite.SECTIONS[name]._replace(targets=others_targets))
    return asked


FEW = ["--count", "2", "--seed", "7", "--threads", "1", "--rounds", "1"]


@pytest.mark.usefixtures("sections")
class TestSuite:
    def test_every_section_is_in_the_one_file_and_every_target_in_print(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "suite.json"
        assert suite.main([*FEW, "--quick", "--json", str(path)]) == 0
        stored = json.loads(path.read_text())
        assert list(stored) == ["taken", "settings", "machine", *suite.SECTIONS]
        assert {name: len(stored[name]["cases"]) for name in suite.SECTIONS if "cases" in stored[name]} == {
            "table": 17,
            "channels_first": 16,
            "large": 4,
            "random": 2,
            "listed": 3,
        }
        assert stored["settings"]["seed"] == stored["random"]["settings"]["seed"] == 7
        printed = " ".join(capsys.readouterr().out.split())
        for expected in (
            "inference, geometric mean against the best peer: 3.00 over 17 layers (wanted: at least 1.5)",
            "pass inference, each layer against the best peer: 17 of 17",
            "miss training, geometric mean against the best peer: 3.00 over 16 layers (wanted: at least 5)",
            "miss training, through JAX against stock JAX, each layer of 1 MFLOP: 0 of",
            "pass inference, each random layer against the best peer: 2 of 2, lowest 3.00",
            "pass memory of a training step beyond its inputs: 0.0 MiB",
            "miss about alone: less (wanted: more)",
            "miss about separable: less (wanted: more)",
        ):
            assert expected in printed

    def test_a_stored_suite_prints_its_sections_and_targets_again(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "suite.json"
        suite.main([*FEW, "--only", "random,memory", "--json", str(path)])
        first = capsys.readouterr().out
        assert suite.main(["--show", str(path)]) == 0
        again = capsys.readouterr().out
        for heading in ("random", "memory", "targets"):
            assert suite_section(first, heading) == suite_section(again, heading) != ""

    def test_ours_through_jax_and_jax_are_timed_on_the_table_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "suite.json"
        suite.main([*FEW, "--json", str(path)])
        stored = json.loads(path.read_text())
        assert set(stored["table"]["versions"]) == set(PEERS)
        for name in ("channels_first", "large", "random", "listed"):
            assert set(stored[name]["versions"]) == set(PEERS) - {"jax", OURS_JAX}

    def test_the_layers_of_the_table_are_put_into_channels_first(self, tmp_path: Path) -> None:
        path = tmp_path / "suite.json"
        suite.main([*FEW, "--only", "channels_first", "--json", str(path)])
        found = [
            cases.from_json(entry["case"])
            for entry in json.loads(path.read_text())["channels_first"]["cases"]
        ]
        assert {case.data_format for case in found} == {"channels_first"}
        assert len(set(found)) == len(found) == 16

    def test_every_random_layer_has_its_neighbour(self, tmp_path: Path) -> None:
        path = tmp_path / "suite.json"
        suite.main([*FEW, "--only", "random", "--json", str(path)])
        entries = json.loads(path.read_text())["random"]["cases"]
        assert [entry["case"] for entry in entries] == [case.to_json() for case in cases.random_cases(2, 7)]
        for entry in entries:
            beside = cases.neighbour(cases.from_json(entry["case"]))
            assert entry["neighbour"]["case"] == beside.to_json()

    def test_all_listed_layers_are_timed_when_asked_for(self) -> None:
        options = suite.parser().parse_args(["--listed"])
        assert suite.choose_cases("listed", options, 1) == cases.listed()
        options = suite.parser().parse_args([])
        assert suite.choose_cases("listed", options, 1) == cases.sample(suite.SAMPLE, 1)
        assert len(suite.choose_cases("random", options, 1)) == 200

    def test_options_reach_the_sections_without_cases(self, sections: list[tuple[str, Any]]) -> None:
        only = ["--quick", "--only", "separable,alone,memory", "--threads", "1"]
        suite.main([*only, "--peers", "jax,litert", "--seconds", "0.5"])
        assert sections == [("memory", (1, [OURS, "jax"])), ("alone", (1, 0.5)), ("separable", (1, 0.5))]

    def test_a_pattern_leaves_sections_without_such_a_case_out(
        self, tmp_path: Path, sections: list[tuple[str, Any]]
    ) -> None:
        path = tmp_path / "suite.json"
        assert suite.main([*FEW, "--quick", "--cases", "14x14x768-*", "--json", str(path)]) == 0
        assert [name for name in suite.SECTIONS if name in json.loads(path.read_text())] == ["large"]
        assert sections == []

    def test_a_section_that_fails_does_not_cost_the_others_but_the_status(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def broken(*_: Any) -> dict[str, Any]:
            raise RuntimeError("no luck")

        monkeypatch.setattr(alone, "measure", broken)
        path = tmp_path / "suite.json"
        assert suite.main(["--only", "alone,separable", "--threads", "1", "--json", str(path)]) == 1
        stored = json.loads(path.read_text())
        assert stored["alone"] == {"failed": "RuntimeError: no luck"}
        assert stored["separable"] == {"of": "separable"}
        assert "none dtypes, threads, and tiny calls: not measured: RuntimeError: no luck" in " ".join(
            capsys.readouterr().out.split()
        )

    def test_an_interrupted_section_keeps_its_cases_and_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        measured = layer.measure_case

        def interrupted(case: Case, *rest: Any) -> dict[str, Any]:
            if case == cases.LARGE[1]:
                raise KeyboardInterrupt
            return measured(case, *rest)

        monkeypatch.setattr(layer, "measure_case", interrupted)
        path = tmp_path / "suite.json"
        with pytest.raises(KeyboardInterrupt):
            suite.main(["--only", "memory,large", "--threads", "1", "--json", str(path)])
        capsys.readouterr()
        suite.main(["--show", str(path)])
        printed = capsys.readouterr().out
        assert "interrupted after 1 of 4 cases" in printed
        assert "inference, each 27x27 and 31x31 layer of RepLKNet against the best peer: 1 of 1" in printed

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--only", "everything"],
            ["--peers", "caffe"],
            ["--cases", "nothing"],
            ["--threads", "100000"],
            ["--count", "0"],
        ],
    )
    def test_arguments_that_make_no_sense_end_with_status_2(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            suite.main(arguments)
        assert ended.value.code == 2


def suite_section(printed: str, heading: str) -> str:
    """The lines under a heading, without what only a run prints: the bar's line and the path."""
    lines = iter(printed.splitlines())
    for line in lines:
        if line.startswith("──") and line.strip("─ ").startswith(heading):
            break
    found = []
    for line in lines:
        if line.startswith("──"):
            break
        if " rounds of " not in line and "written to" not in line:
            found.append(line.rstrip())
    return "\n".join(found).strip()


def entry(name: str, ours: float, peer: float, well_shaped: float) -> dict[str, Any]:
    def outcomes(**ms: float) -> dict[str, Any]:
        timed = {key: {"ms": value} for key, value in ms.items()}
        case = {"name": name, "data_format": "channels_last"}
        return {"case": case, "cost": {"flops": 4e6}, "inference": timed, "training": timed}

    return outcomes(ours=ours, litert=peer) | {"neighbour": outcomes(ours=well_shaped)}


class TestLowest:
    def lines(self, **options: Any) -> list[str]:
        entries = [entry("fair", 1.0, 2.0, 0.1), entry("slow", 2.0, 1.0, 2.0), entry("fast", 1.0, 9.0, 0.5)]
        console = Console(file=io.StringIO(), width=160)
        console.print(report.lowest({"cases": entries}, "inference", 2, **options))
        assert isinstance(console.file, io.StringIO)
        return [" ".join(line.split()) for line in console.file.getvalue().splitlines() if line.strip()]

    def test_the_worst_come_first_with_their_best_peer_and_neighbour(self) -> None:
        title, *_, first, second = self.lines()
        assert title == "inference: the lowest 2 of 3 by best peer over ours"
        assert first == "slow 2.000 1.000 LiteRT 0.50 2.00 slow 2.00 1.00"
        assert second == "fair 1.000 2.000 LiteRT 2.00 4.00 fair 40.00 0.10"

    def test_the_worst_beside_their_neighbours_are_others(self) -> None:
        *_, first, second = self.lines(beside_neighbour=True)
        assert [line.split()[0] for line in (first, second)] == ["fair", "fast"]


class TestReadme:
    def test_the_table_is_found_in_a_suite_and_as_it_is(self) -> None:
        table: dict[str, Any] = {"cases": [], "settings": {}}
        assert readme.table_of(table) is table
        assert readme.table_of({"taken": "today", "table": table, "random": {"cases": [1]}}) is table

    def test_a_suite_without_the_table_is_refused(self) -> None:
        with pytest.raises(ValueError, match="with the table in it"):
            readme.table_of({"random": {"cases": [1]}})

    def result(self, *peers: str) -> dict[str, Any]:
        return {
            "cases": [entry("fair", 1.0, 2.0, 0.1)],
            "settings": {"threads": 3},
            "machine": {"cpu": "Abacus"},
            "versions": {OURS: {"isa": "beads"}, **{name: {} for name in peers}},
        }

    def test_the_text_says_on_what_and_against_whom(self) -> None:
        table = self.result("torch", "torch-nhwc", "litert", OURS_JAX)
        text = readme.block({"table": table}, "stored.json")
        assert "| fair | 1.000 | 2.000 (LiteRT) | 2.00 | - |" in text
        assert "Abacus (3 threads, beads)" in text
        assert "the fastest of PyTorch (both layouts) and LiteRT on" in text
        assert "`make bench` makes this table; [the whole result](stored.json)" in text
        assert "(benchmarks/README.md) and [pictures](docs/speed.md)" in text

    def test_another_page_has_its_own_links(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(readme, "ROOT", tmp_path)
        stored, page = tmp_path / "stored.json", tmp_path / "docs" / "page.md"
        page.parent.mkdir()
        stored.write_text(json.dumps(self.result("torch")))
        page.write_text(f"before {readme.BEGIN} old {readme.END} after")
        readme.main([str(stored), str(page)])
        text = page.read_text()
        assert text.startswith(f"before {readme.BEGIN}")
        assert text.endswith(f"{readme.END} after")
        assert "old" not in text
        assert "the fastest of PyTorch on" in text
        assert "`python -m benchmarks.run` makes this table; [the whole result](../stored.json)" in text
        assert "(../benchmarks/README.md) and [pictures](../docs/speed.md)" in text
