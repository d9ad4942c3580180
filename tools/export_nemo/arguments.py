# SPDX-License-Identifier: MIT OR Apache-2.0
"""The command line."""

import argparse
from pathlib import Path

# Kept here, so that --help needs neither NeMo nor ONNX.
FORMATS = ("nemo", "sherpa", "parakeet-rs")
PRECISIONS = ("fp32", "fp16", "int8")
# Largest allowed difference, relative to the largest value compared (or to 1, if that is larger). Correct exports stay
# below 1e-5; two frames of a window dropped wrongly, or a lost cache, give 0.01 and more.
TOLERANCE = 1e-4

DESCRIPTION = """\
Exports a cache-aware streaming model of NVIDIA NeMo to a directory that nemostt (or sherpa-onnx, or parakeet-rs)
loads, and verifies the files: ONNX Runtime must reproduce NeMo's outputs and tokens."""

EXAMPLES = """\
examples:
  a local checkpoint, with all its decoders:
    tools/export_nemo.sh model.nemo models/mine
  a published one, downloaded by NeMo, in fp32 and int8:
    tools/export_nemo.sh nvidia/stt_en_fastconformer_hybrid_large_streaming_multi models/multi --precision fp32,int8
  for sherpa-onnx, one directory for 80 ms and one for 480 ms of lookahead:
    tools/export_nemo.sh model.nemo models/sherpa --format sherpa --lookahead 80,480
  verified with your own recordings (16 kHz mono):
    tools/export_nemo.sh model.nemo models/mine --wav one.wav --wav two.wav

exit codes: 0 written and verified; 1 not exported, the message says why; 2 wrong arguments; 3 written, but it differs
from NeMo (parity.json says where)."""


def milliseconds(text: str) -> list[int]:
    try:
        return [int(part.strip().removesuffix("ms")) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of milliseconds such as 80,480") from error


def precisions(text: str) -> list[str]:
    requested = [part.strip() for part in text.split(",")]
    unknown = [name for name in requested if name not in PRECISIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(PRECISIONS)}")
    return [name for name in PRECISIONS if name in requested]


def parser() -> argparse.ArgumentParser:
    wide = lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=110)
    parser = argparse.ArgumentParser("export_nemo", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=wide)
    parser.add_argument("checkpoint", help="a .nemo file, or the name of a pretrained model that NeMo can download")
    parser.add_argument("directory", type=Path, help="where to write the model; created if it does not exist")

    what = parser.add_argument_group("what to write")
    what.add_argument(
        "--format", choices=FORMATS, default="nemo", help="the reader it is for (default: nemo, for nemostt)"
    )
    what.add_argument(
        "--decoder", choices=("rnnt", "ctc", "both"), help="default: all that the model and the reader support"
    )
    what.add_argument(
        "--lookahead",
        type=milliseconds,
        metavar="MS[,MS]",
        help="right context in ms that the encoder sees before a frame is decoded. nemo: one graph for all lookaheads "
        "(default: all that the model was trained for). Others: one directory for each (default: the largest)",
    )
    what.add_argument(
        "--precision",
        type=precisions,
        metavar="P[,P]",
        default=["fp32"],
        help="fp32 (default), fp16, int8, or several separated by commas: one directory for each",
    )
    what.add_argument("--licence", help="for nemostt.json, if the checkpoint's model card does not name it")
    what.add_argument(
        "--external-data", action="store_true", help="weights in a separate file (always above 2 GB)"
    )
    what.add_argument("--force", action="store_true", help="replace the contents of the directory")

    check = parser.add_argument_group("how to verify it")
    check.add_argument(
        "--wav",
        type=Path,
        action="append",
        default=[],
        help="compare with NeMo on this file; may be repeated (default: assets/demo.wav)",
    )
    check.add_argument("--language", help="for models with a prompt: the language to use (default: auto)")
    check.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help=f"largest difference from NeMo, relative to the largest value (default: {TOLERANCE:g})",
    )

    rare = parser.add_argument_group("rarely needed")
    rare.add_argument(
        "--cut-positions",
        type=int,
        default=0,
        metavar="N",
        help="keep N rows of the position table on either side, for test data",
    )
    rare.add_argument("--ignore-memory", action="store_true", help="export even if there seems to be too little memory")
    rare.add_argument("--check-arguments", action="store_true", help="check the arguments, and export nothing")
    rare.add_argument("--verbose", action="store_true", help="show the output of NeMo and PyTorch")
    return parser
