"""Certified lower ends and attacks beside what verifiers found, image by image, on networks of VNN-COMP.

    python benchmarks/peers/sandwich.py --vnncomp DIR --record FILE [NETWORK ...]  appends to FILE what it
        finds
    python benchmarks/peers/sandwich.py --record FILE --write  puts it into `sandwich.md`

DIR has `benchmarks` of https://github.com/stanleybak/vnncomp2021 and `results_csv` of
https://github.com/stanleybak/vnncomp2021_results. For 2022, with a FILE of its own, it has `benchmarks` of
https://github.com/ChristopherBrix/vnncomp2022_benchmarks, unpacked, and the folders of vnncomp2022_results in
`results_csv`, and instances that no verifier decided are left out. Reading networks needs the package onnx.
Instances that FILE has are left out, so a run may be interrupted, and processes may share the networks
between them.
"""

import argparse
import copy
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.errors.coverage import write
from benchmarks.peers.sandwich_networks import BENCHMARKS, OF_2022, OUTSIDE, Instance, instances, network
from robustbench_coded import attack
from robustbench_coded.extras.certification.bounds import Region, least_margins
from robustbench_coded.extras.certification.graph import Graph, graph_of
from robustbench_coded.models.pixel_model import PixelModel

PAGE = Path(__file__).with_suffix(".md")
ATTACKS = ("pgd-100+loss=margin+restarts=5", "apgd-mt-100", "apgd-t-100", "growing-160")
LAST = "crossover-160"  # on what those leave and no bound certifies
ORDER = ("broken", "disputed", "open", "robust")
Record = dict[str, Any]
Records = dict[tuple[str, str], Record]


def ahead(model: PixelModel, one: Instance, x: Tensor) -> float:
    """By how much an answer that must not be leads, in float64: 0 or more where x is a counterexample.

    Args:
        x: pixels [C, H, W]; those that float32 put outside the box are moved to its sides.
    """
    inside = x.double().clamp(one.low, one.high)
    assert float((x - inside).abs().max()) <= OUTSIDE, "outside the box"
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(inside[None])[0]
    if one.target is None:
        one_out = torch.arange(len(logits)) != one.label
        return float(logits[one_out].max() - logits[one.label])
    return float(logits[one.target] - logits[torch.arange(len(logits)) != one.target].max())


def certified(graph: Graph, one: Instance) -> float:
    """A lower bound on how far the right answers stay ahead within the box; above 0 it is certified.

    Not computed for the residual networks of 2022, whose images take 8 seconds each.
    """
    if one.benchmark.startswith("sri_"):
        return -math.inf
    region = Region.around(one.image[None], "linf", one.eps)
    assert bool((region.low[0] <= one.low).all() and (one.high <= region.high[0]).all()), "the box is larger"
    margins = least_margins(graph, region, torch.tensor([one.label]))[0]
    return float(margins.min() if one.target is None else margins[one.target])


def attacked(model: PixelModel, name: str, some: list[Instance]) -> list[float]:
    """What an attack reaches, by instances of one eps: how far it puts a wrong answer ahead."""
    x = torch.stack([one.image for one in some]).float()
    y = torch.tensor([one.label for one in some])
    towards = [one.target for one in some if one.target is not None]
    target = torch.tensor(towards) if towards else None
    found = attack(model, x, y, name, some[0].eps, target=target, seed=0, early_stop=True)
    return [ahead(model, one, at) for one, at in zip(some, found, strict=True)]


def begun(model: PixelModel, graph: Graph, one: Instance) -> Record:
    """The record of an instance that no attack has been tried on."""
    started = time.process_time()
    bound, clean = certified(graph, one), ahead(model, one, one.image)
    return {
        "benchmark": one.benchmark,
        "network": one.network,
        "spec": one.spec,
        "eps": one.eps,
        "target": one.target,
        "published": one.published,
        "robust": one.robust,
        "broken": one.broken,
        "bound": bound,
        "reached": clean,
        "by": "clean" if clean >= 0 else "",
        "tried": [],
        "bound_seconds": time.process_time() - started,
        "attack_seconds": 0.0,
    }


def tried(model: PixelModel, name: str, some: list[Instance], records: list[Record]) -> None:
    """Puts into their records what an attack reaches on instances of one eps."""
    started = time.process_time()
    reached = attacked(model, name, some)
    for record, far in zip(records, reached, strict=True):
        record["reached"] = max(record["reached"], far)
        record["by"] = name if far >= 0 else ""
        record["tried"].append(name)
        record["attack_seconds"] += (time.process_time() - started) / len(some)


def first_attacks(root: Path, names: list[str], known: Records) -> Iterator[Record]:
    """Records of the instances of these networks, or of all, that are not known."""
    for benchmark in BENCHMARKS:
        groups: dict[tuple[str, float, str], list[Instance]] = defaultdict(list)
        for one in instances(root, benchmark, names):
            undecided = benchmark in OF_2022 and one.published == "open"
            if (one.network, one.spec) not in known and not undecided:
                groups[one.network, round(one.eps, 6), one.published].append(one)
        for _, some in sorted(groups.items(), key=lambda group: ORDER.index(group[0][2])):
            x = torch.stack([one.image for one in some]).float()
            model = network(some[0].path, benchmark, x)
            graph = graph_of(model, x.repeat(2, 1, 1, 1))
            pairs = [(one, begun(model, graph, one)) for one in some]
            for name in ATTACKS:
                if left := [(one, record) for one, record in pairs if not record["by"]]:
                    tried(model, name, [one for one, _ in left], [record for _, record in left])
            yield from (record for _, record in pairs)


def last_attack(root: Path, names: list[str], known: Records) -> Iterator[Record]:
    """Records of those of known instances that nothing has settled: those published broken come first."""
    left = []
    for benchmark in BENCHMARKS:
        for one in instances(root, benchmark, names):
            record = known.get((one.network, one.spec))
            if record is None or (benchmark in OF_2022 and one.published == "robust"):
                continue
            if not record["by"] and record["bound"] <= 0 and LAST not in record["tried"]:
                left.append((one, record))
    for one, record in sorted(left, key=lambda pair: ORDER.index(pair[0].published)):
        tried(network(one.path, one.benchmark, one.image[None].float()), LAST, [one], [record])
        yield record


# The page.


def outcome(record: Record) -> str:
    """What both ends say: ``certified``, ``broken`` or ``open``."""
    return "broken" if record["by"] else "certified" if record["bound"] > 0 else "open"


def contradicts(record: Record) -> bool:
    """Whether an end says the opposite of what is published, or both ends of each other."""
    said = {"robust": "certified", "broken": "broken"}.get(record["published"])
    both = bool(record["by"]) and record["bound"] > 0
    return both or (said is not None and outcome(record) not in (said, "open"))


def summary(records: list[Record]) -> Iterator[str]:
    """Markdown, a line a network."""
    yield (
        "| network | instances | published robust | of these certified | published broken | of these broken "
        "| disputed or open | of these decided | contradictions | CPU seconds, bound | CPU seconds, attacks |"
    )
    yield "| --- |" + " ---: |" * 10
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record["network"]].append(record)
    for name, some in (*groups.items(), ("all", records)):
        cells: list[object] = [name, len(some)]
        for published, ours in (("robust", "certified"), ("broken", "broken")):
            these = [r for r in some if r["published"] == published]
            cells += [len(these), sum(outcome(r) == ours for r in these)]
        rest = [r for r in some if r["published"] in ("disputed", "open")]
        cells += [len(rest), sum(outcome(r) != "open" for r in rest), sum(map(contradicts, some))]
        cells += [f"{sum(r[of] for r in some) / len(some):.2g}" for of in ("bound_seconds", "attack_seconds")]
        yield f"| {' | '.join(map(str, cells))} |"


def lines(records: list[Record]) -> Iterator[str]:
    """Markdown, a line an instance."""
    yield "| network | instance | eps | published | verifiers for | against | bound | attacks reach | by |"
    yield "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | --- |"
    for r in records:
        spec = r["spec"].removeprefix("network").removeprefix(r["network"]).removeprefix("mnist_spec_")
        by = r["by"] or ("none, not by crossover" if LAST in r["tried"] else "none")
        yield (
            f"| {r['network']} | {spec.partition('eps')[0].strip('_-')} | {r['eps']:.4f} | {r['published']} "
            f"| {r['robust']} | {r['broken']} | {r['bound']:.3g} | {r['reached']:.3g} | {by} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help="names; all without any")
    parser.add_argument("--vnncomp", type=Path, help="folder with benchmarks and results_csv")
    parser.add_argument("--record", type=Path, required=True, help="one line of JSON an instance")
    parser.add_argument("--write", action="store_true", help="put the tables into sandwich.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.vnncomp:
        for attacks in (first_attacks, last_attack):
            for record in attacks(options.vnncomp, options.networks, _records(options.record)):
                with options.record.open("a") as out:
                    out.write(json.dumps(record) + "\n")
    records = sorted(_records(options.record).values(), key=lambda r: list(BENCHMARKS).index(r["benchmark"]))
    table = "\n".join(summary(records))
    print(table)
    if options.write:
        year = " 2022" if records[0]["benchmark"] in OF_2022 else ""
        write(f"networks{year}", table, PAGE)
        write(f"instances{year}", "\n".join(lines(records)), PAGE)


def _records(path: Path) -> Records:
    """By network and specification; the last line of each counts."""
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {(record["network"], record["spec"]): record for record in found}


if __name__ == "__main__":
    main()
