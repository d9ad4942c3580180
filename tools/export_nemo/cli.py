# SPDX-License-Identifier: MIT OR Apache-2.0
"""The whole run, from arguments to exit code."""

import gc
import json
import shutil
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from . import checks, preflight
from .arguments import parser
from .checks import Kind
from .errors import ExportError


def main(argv: list[str] | None = None) -> int:
    # Checks that do not need NeMo come first: tools/export_nemo.sh runs them before it installs 8 GB.
    args = parser().parse_args(argv)
    try:
        preflight.require_arguments(args)
        if args.check_arguments:
            return 0
        preflight.require_modules()
        return run(args)
    except ExportError as refusal:
        print(f"export: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


@dataclass
class Plan:
    """One graph per role, for one lookahead and the smaller ones that it also serves."""

    lookahead: int
    serves: list[int]


def run(args: Namespace) -> int:
    from . import audio, checkpoint, layouts
    from .capture_output import passthrough, captured

    capture = passthrough if args.verbose else captured
    found = checkpoint.find(args.checkpoint, capture)
    found.licence = args.licence or found.licence
    kind = checks.kind_of(found.config)
    layout = layouts.LAYOUTS[args.format]
    decoders = pick_decoders(kind, args.decoder, layout)
    plans = make_plans(kind, layout, args.lookahead)
    prompt = pick_prompt(kind, args.language)
    check_cut(args.cut_positions, kind, plans)
    clips = audio.clips(args.wav, int(found.config["preprocessor"].get("sample_rate", 16000)))
    if not args.ignore_memory:
        preflight.require_memory(found.weight_bytes)
    sets = len(plans) * len(args.precision)
    preflight.require_disk(args.directory.absolute(), found.weight_bytes, sets, len(decoders))

    target = args.directory.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    # Next to the target, so that it can be moved there atomically and an interrupted export leaves no partial model.
    part = target.parent / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        passed = Export(args, found, kind, layout, decoders, plans, prompt, clips, capture).into(part)
        shutil.rmtree(part / "scratch")
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"\n{'written and verified' if passed else 'WRITTEN, BUT IT DIFFERS FROM NEMO'}: {args.directory}")
    for path in sorted(target.rglob("*")):
        if path.is_file():
            print(f"  {path.stat().st_size:>13,}  {path.relative_to(target)}")
    return 0 if passed else 3


class Export:
    """The part of a run that takes time."""

    def __init__(self, args, checkpoint, kind, layout, decoders, plans, prompt, clips, capture):
        self.args, self.checkpoint, self.kind, self.layout = args, checkpoint, kind, layout
        self.decoders, self.plans, self.prompt, self.clips, self.capture = decoders, plans, prompt, clips, capture

    def into(self, target: Path) -> bool:
        """Writes everything below `target`. Returns whether it matches NeMo."""
        from . import parity

        exported, reference = self.run_nemo(target / "scratch")
        rows, losses = [], []
        for plan in self.plans:
            with self.capture(f"writing and verifying {self.layout.name}, {plan.lookahead * self.kind.frame_ms} ms"):
                self.write(plan, exported[plan.lookahead], target, reference, rows, losses)
        print(parity.table(rows))
        if losses:
            print(f"\ncompared with fp32:\n{parity.loss_table(losses)}")
        report = parity.report(rows, losses, self.metadata())
        text = json.dumps(report, ensure_ascii=False, indent=1)
        (target / "parity.json").write_text(text + "\n", encoding="utf-8")
        return report["passed"]

    def run_nemo(self, scratch: Path):
        """Everything that needs the NeMo model, which is freed afterwards: reference values, graphs, vocabulary."""
        from . import graphs, layouts, loading, reference, vocabulary

        with self.capture("loading the checkpoint with NeMo"):
            model = loading.load(self.checkpoint, self.kind)
            self.pieces = vocabulary.pieces_of(model)
            self.shape = layouts.Shape.of(model, len(self.pieces))
        lookaheads = sorted({lookahead for plan in self.plans for lookahead in plan.serves})
        with self.capture(f"running NeMo on {len(self.clips)} clip(s) at {len(lookaheads)} lookahead(s)"):
            golden = reference.compute(model, self.kind, self.clips, lookaheads, self.decoders, self.prompt)
        exported = {}
        for plan in self.plans:
            with self.capture(f"exporting at {plan.lookahead * self.kind.frame_ms} ms"):
                below = scratch / str(plan.lookahead)
                exported[plan.lookahead] = graphs.export(
                    model, self.kind, plan.lookahead, self.decoders, self.layout.split, below
                )
        del model
        gc.collect()
        return exported, golden

    def write(self, plan: Plan, exported: dict, target: Path, reference, rows: list, losses: list) -> None:
        """One lookahead in all precisions."""
        from . import layouts, parity, precision, vocabulary

        args, kind, layout, shape = self.args, self.kind, self.layout, self.shape
        wanted = args.precision
        # fp32 is always written, even if not requested: the others are converted from it and compared with it.
        place = self.place(plan, "fp32")
        exact_place = target / place if "fp32" in wanted else target / "scratch" / "fp32"
        files = layouts.arrange(
            layout, exported, exact_place, kind, shape, plan.lookahead, args.cut_positions, args.external_data
        )
        for source in exported.values():
            shutil.rmtree(source.parent)
        model = parity.ExportedModel(files, layout, kind, shape, self.prompt)
        found, exact = parity.check(model, place, reference, plan.serves, kind.frame_ms, args.tolerance)
        rows += found
        del model
        for name in wanted:
            place = self.place(plan, name)
            if name != "fp32":
                smaller = precision.convert(files, layout, name, target / place, args.external_data)
                model = parity.ExportedModel(smaller, layout, kind, shape, self.prompt)
                as_text = lambda labels: vocabulary.text(labels, self.pieces)
                losses += parity.check_precision(model, place, name, reference, exact, kind.frame_ms, as_text)
                del model
            self.write_extras(target / place, plan, name)

    def place(self, plan: Plan, precision: str) -> str:
        """The directory of one set of graphs, named after what distinguishes it."""
        parts = [f"{plan.lookahead * self.kind.frame_ms}ms"] if len(self.plans) > 1 else []
        parts += [precision] if len(self.args.precision) > 1 else []
        return "-".join(parts)

    def write_extras(self, place: Path, plan: Plan, precision: str) -> None:
        """Writes the files next to the graphs."""
        from . import sidecar, vocabulary

        vocabulary.write_tokens(self.pieces, place / "tokens.txt")
        if self.checkpoint.tokenizer:
            (place / "tokenizer.model").write_bytes(self.checkpoint.tokenizer)
        found = sidecar.contents(
            self.checkpoint, self.kind, self.pieces, self.layout.name, plan.serves, self.decoders, precision
        )
        sidecar.write(found, place / "nemostt.json")

    def metadata(self) -> dict:
        import nemo
        import onnxruntime
        import torch

        return {
            "source": self.checkpoint.source,
            "layout": self.layout.name,
            "tolerance": self.args.tolerance,
            "nemo_version": nemo.__version__,
            "torch_version": torch.__version__,
            "onnxruntime_version": onnxruntime.__version__,
        }


def pick_decoders(kind: Kind, asked: str | None, layout) -> list[str]:
    readable = {"rnnt": "decoder_joint" in layout.files or "joiner" in layout.files, "ctc": "ctc" in layout.files}
    there = [decoder for decoder in kind.decoders if readable[decoder]]
    wanted = there if asked is None else ["rnnt", "ctc"] if asked == "both" else [asked]
    for decoder in wanted or kind.decoders:
        if decoder not in kind.decoders:
            raise ExportError(f"an {kind.name} has no {decoder} decoder: use --decoder {kind.decoders[0]}")
        if not readable[decoder]:
            raise ExportError(
                f"{layout.reader} does not support streaming {decoder} models: use --decoder rnnt or --format nemo"
            )
    return wanted


def make_plans(kind: Kind, layout, asked_ms: list[int] | None) -> list[Plan]:
    chosen = checks.pick_lookaheads(kind, asked_ms)
    if not layout.one_lookahead:
        return [Plan(chosen[-1], chosen)]
    chosen = chosen if asked_ms else chosen[-1:]
    return [Plan(lookahead, [one for one in kind.lookaheads if one <= lookahead]) for lookahead in chosen]


def pick_prompt(kind: Kind, language: str | None) -> int | None:
    if not kind.prompts:
        if language:
            raise ExportError(f"an {kind.name} has no prompt: omit --language")
        return None
    if language is None:
        return kind.prompts.get("auto", next(iter(kind.prompts.values())))
    if language not in kind.prompts:
        raise ExportError(f"its prompts do not include {language}: use one of {', '.join(sorted(kind.prompts))}")
    return kind.prompts[language]


def check_cut(rows: int, kind: Kind, plans: list[Plan]) -> None:
    least = kind.left + 2 * (max(plan.lookahead for plan in plans) + 1)
    if rows and rows < least:
        raise ExportError(f"--cut-positions {rows} is too small: a stream reads up to {least} rows on either side")
