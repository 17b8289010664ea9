"""The benches by name: `scripts/bench NAME`. Each is a module of `benches` with a function `run(arguments) -> Page` and the options it knows."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

BENCHES = ("vault", "gateway", "ingest", "backup", "turns")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure one part of Nightsafe beside its peers.")
    benches = parser.add_subparsers(dest="bench", required=True, metavar="|".join(BENCHES))
    for name in BENCHES:
        module = importlib.import_module(f"benches.{name}")
        options = benches.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        options.add_argument("--write", action="store_true", help=f"write docs/reference/speed-{name}.md as well")
        rounds = getattr(module, "ROUNDS", 7)
        options.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"rounds, of which the medians are shown ({rounds})")
        module.add_options(options)
    arguments = parser.parse_args()
    page = importlib.import_module(f"benches.{arguments.bench}").run(arguments)
    print(page.text())
    if arguments.write:
        page.write(ROOT / "docs" / "reference" / f"speed-{arguments.bench}.md")
    return 0 if page.reached else 1


if __name__ == "__main__":
    sys.exit(main())
