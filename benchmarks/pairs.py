"""Random pairs of the built-in metals, trained and generated from in the shell as a user would,
unattended. Prints JSON.

python -m benchmarks.pairs [--pairs 20] [--seed 0] [--epochs 100] [-n 200]
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time

from crystalgan.data.classes import builtin_classes


def shell(*words: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "crystalgan", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()
        return {"failed": last[-1] if last else f"exit code {done.returncode}"}
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def pair(a: str, b: str, epochs: int, n: int, folder: str) -> dict[str, object]:
    start = time.perf_counter()
    trained = shell("train", a, b, "--epochs", str(epochs), "--runs", folder)
    made = trained if "failed" in trained else shell("generate", str(trained["run"]), "-n", str(n))
    return {"pair": f"{a}-{b}", "seconds": round(time.perf_counter() - start, 1)} | made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("-n", type=int, default=200)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    metals = list(builtin_classes())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.pairs):
            a, b = rng.sample(metals, 2)
            rows.append(pair(a, b, given.epochs, given.n, folder))
            print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps({"pairs": rows, "failures": sum("failed" in row for row in rows)}))
