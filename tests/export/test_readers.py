# SPDX-License-Identifier: MIT OR Apache-2.0
"""nemostt and sherpa-onnx transcribe with exported models: exports of the trained model that is compiled in.

Its checkpoint is not in the repository: NEMOSTT_DEMO_NEMO is its path, and without it these tests are skipped.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from common import DEMO, ROOT, WAVS, export

NEMOSTT = ROOT / "target" / "release" / "nemostt"
RUNTIME = ROOT / "target" / "onnxruntime" / "libonnxruntime.so"
CLIPS = [WAVS / f"{name}.wav" for name in ("u1_command", "u2_digits", "u4_heldvoice")]
LOOKAHEADS = (0, 80, 480, 1040)

# sherpa-onnx 2.0.1 feeds its first window, 17 + 8 R mel frames, to a graph that drops the first two encoder frames:
# they are lost, and every chunk of attention begins two frames later than NeMo's. Its mel frames are also 5 ms later.
# With 160 + 5 ms of silence before the clip, only silence is lost and both grids match NeMo's.
GRID_MS = 165


def transcribe(clip: Path, *options) -> str:
    command = [NEMOSTT, "transcribe", "--eos-padding", "2000", *options, clip]
    environment = {**os.environ, "ORT_DYLIB_PATH": str(RUNTIME)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@unittest.skipUnless(DEMO.exists(), "NEMOSTT_DEMO_NEMO names no checkpoint")
@unittest.skipUnless(NEMOSTT.exists(), "make build comes first")
class Readers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)

    def export(self, name: str, *arguments) -> Path:
        code, out, stderr = export(DEMO, self.folder / name, "--wav", WAVS / "u1_command.wav", *arguments)
        self.assertEqual(code, 0, out + stderr)
        return self.folder / name

    def test_nemostt_matches_the_compiled_in_model(self):
        for precision in ("fp32", "fp16", "int8"):
            directory = self.export(precision, "--precision", precision)
            for lookahead in LOOKAHEADS:
                for decoder in ("rnnt", "ctc"):
                    for clip in CLIPS:
                        options = "--lookahead", lookahead, "--decoder", decoder
                        expected = transcribe(clip, *options)
                        self.assertTrue(expected)
                        found = transcribe(clip, "--model", directory, *options)
                        with self.subTest(f"{precision} {lookahead} {decoder} {clip.name}"):
                            self.assertEqual(found, expected)

    @unittest.skipUnless(importlib.util.find_spec("sherpa_onnx"), "sherpa-onnx is not installed")
    def test_sherpa_onnx_matches_nemostt(self):
        directory = self.export(
            "sherpa", "--format", "sherpa", "--lookahead", "0,80,480,1040", "--precision", "fp32,int8"
        )
        for lookahead in LOOKAHEADS:
            for decoder in ("rnnt", "ctc"):
                expected = [transcribe(clip, "--lookahead", lookahead, "--decoder", decoder) for clip in CLIPS]
                with self.subTest(f"{lookahead} {decoder}"):
                    self.assertEqual(self.sherpa(directory / f"{lookahead}ms-fp32", decoder), expected)
                    self.assertTrue(all(self.sherpa(directory / f"{lookahead}ms-int8", decoder)))

    def sherpa(self, directory: Path, decoder: str) -> list[str]:
        script = Path(__file__).with_name("run_sherpa.py")
        command = [sys.executable, script, directory, decoder, GRID_MS, *CLIPS]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        return [text.strip() for text in json.loads(done.stdout.splitlines()[-1])]


if __name__ == "__main__":
    unittest.main()
