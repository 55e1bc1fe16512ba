"""Our engine against gliclass on a checkpoint of DeBERTa-v3-small's shape: `python -m load_tests.deberta`.

Random weights, the benchmark's texts and facets, both sides by turns in one process; prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import torch

from streamer.bench.compare import compare_engines
from streamer.bench.reference import DEBERTA_V3_SMALL, gliclass_version
from streamer.settings import ModelSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    found = compare_engines(
        version=gliclass_version() or "",
        shape=DEBERTA_V3_SMALL,
        model=ModelSettings(device=asked.device),
        own_model=False,
        records=asked.records,
        rounds=asked.rounds,
        advance=lambda _: None,
    )
    ratios = {"ratio": found.ratio, "ratio_float32": found.ratio_float32, "threads": torch.get_num_threads()}
    print(json.dumps(asdict(found) | ratios))


if __name__ == "__main__":
    main()
