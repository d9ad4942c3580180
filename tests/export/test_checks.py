# SPDX-License-Identifier: MIT OR Apache-2.0
"""Errors: unsupported configurations, invalid files, missing resources."""

import contextlib
import io
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

import common  # noqa: F401  (finds the package)
import yaml
from checkpoints import config
from common import export
from export_nemo import checkpoint, checks, parity, preflight, runner
from export_nemo.errors import ExportError


def changed(**changes) -> dict:
    """The configuration of a valid model with changes: `section__key=value`, or `key=value` at the top level."""
    found = config()
    for name, value in changes.items():
        *section, key = name.split("__")
        (found[section[0]] if section else found)[key] = value
    return found


class Configurations(unittest.TestCase):
    def test_streaming_hybrid_is_accepted(self):
        kind = checks.kind_of(config())
        self.assertEqual(kind.decoders, ("rnnt", "ctc"))
        self.assertEqual((kind.left, kind.lookaheads, kind.mels, kind.frame_ms), (70, [0, 1, 6, 13], 80, 80))

    def test_single_context_size(self):
        kind = checks.kind_of(changed(encoder__att_context_size=[56, 3]))
        self.assertEqual((kind.left, kind.lookaheads), (56, [3]))

    def test_unsupported_configurations_are_rejected_with_a_fix(self):
        models = "nemo.collections.asr.models."
        cases = (
            (changed(preprocessor__normalize="per_feature"), "offline model: its features are normalized"),
            (changed(encoder__att_context_size=[-1, -1]), "its attention is unlimited"),
            (changed(encoder__att_context_style="regular"), "style regular"),
            (changed(encoder__att_context_style="chunked_limited_with_rc"), "chunked_limited_with_rc"),
            (changed(encoder__self_attention_model="rope"), "rope"),
            (changed(encoder__conv_context_size=None), "convolutions look ahead"),
            (changed(encoder__causal_downsampling=False), "convolutions look ahead"),
            (changed(encoder__subsampling_factor=4), "4 mel frames"),
            (changed(encoder__att_context_size=[70, 3]), "silently halve the lookahead"),
            (changed(encoder__att_context_size=[[70, 13], [56, 6]]), "differ in their left side"),
            (changed(encoder___target_="nemo.collections.asr.modules.SqueezeformerEncoder"), "SqueezeformerEncoder"),
            (changed(joint__num_extra_outputs=5), "TDT model"),
            (changed(loss={"loss_name": "tdt"}), "TDT model"),
            (changed(loss={"loss_name": "multiblank_rnnt"}), "multi-blank model"),
            (changed(decoder___target_="x.StatelessTransducerDecoder"), "StatelessTransducerDecoder"),
            (changed(target=models + "EncDecMultiTalkerRNNTBPEModel"), "multitalker"),
            (changed(target=models + "EncDecMultiTaskModel"), "EncDecMultiTaskModel"),
            (changed(target=models + "EncDecHybridRNNTCTCModel"), "tokens are characters"),
            (changed(target=None), "names no model class"),
            (changed(preprocessor__highfreq=4000), "highfreq: 4000"),
        )
        for settings, sentence in cases:
            with self.subTest(sentence), self.assertRaises(ExportError) as raised:
                checks.kind_of(settings)
            self.assertIn(sentence, str(raised.exception))
            self.assertRegex(str(raised.exception), r"(: |; |, )(use|save) ", "the fix")

    def test_prompts_out_of_range_are_rejected(self):
        settings = changed(target="x.EncDecHybridRNNTCTCBPEModelWithPrompt")
        settings["model_defaults"] |= {"initialize_prompt_feature": True, "num_prompts": 4}
        settings["model_defaults"]["prompt_dictionary"] = {"en-US": 0, "auto": 4}
        with self.assertRaisesRegex(ExportError, "outside its 4 prompts: {'auto': 4}"):
            checks.kind_of(settings)
        del settings["model_defaults"]["prompt_dictionary"]
        with self.assertRaisesRegex(ExportError, "without a prompt_dictionary"):
            checks.kind_of(settings)

    def test_lookaheads(self):
        kind = checks.kind_of(config())
        self.assertEqual(checks.pick_lookaheads(kind, None), [0, 1, 6, 13])
        self.assertEqual(checks.pick_lookaheads(kind, [480, 0, 480]), [0, 6])
        for ms, sentence in (
            ([240], "silently halve"),
            ([320], "not trained.*use 0, 80, 480, 1040 ms"),
            ([100], "80 ms"),
        ):
            with self.subTest(ms), self.assertRaisesRegex(ExportError, sentence):
                checks.pick_lookaheads(kind, ms)


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def archive(self, name: str, members: dict[str, bytes]) -> Path:
        path = self.folder / name
        with tarfile.open(path, "w") as file:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        return path

    def test_checkpoint_is_read_without_loading_it(self):
        settings = config()
        settings["tokenizer"]["model_path"] = "nemo:abc_tokenizer.model"
        members = {"./model_config.yaml": yaml.safe_dump(settings).encode(), "./model_weights.ckpt": b"w" * 1000}
        found = checkpoint.read(self.archive("a.nemo", members | {"./abc_tokenizer.model": b"pieces"}), "a.nemo", None)
        self.assertEqual((found.weight_bytes, found.tokenizer), (1000, b"pieces"))
        self.assertEqual(found.config["target"], settings["target"])

    def test_other_files_are_identified(self):
        whole = self.archive(
            "whole.nemo", {"model_config.yaml": b"x: 1", "model_weights.ckpt": b"w" * 20000}
        ).read_bytes()
        with zipfile.ZipFile(self.folder / "zip", "w") as file:
            file.writestr("data.pkl", "x")
        cases = (
            (b"", "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS pointer"),
            (b"<!DOCTYPE html><html>", "web page"),
            ((self.folder / "zip").read_bytes(), "PyTorch checkpoint"),
            (b"\x08\x08\x12\x07pytorch", "ONNX graph"),
            (b'\x40\0\0\0\0\0\0\0{"weight":', ".safetensors"),
            (b"hello world" * 100, "not a .nemo checkpoint"),
            (whole[:800], "not a .nemo checkpoint|has no"),
        )
        for content, sentence in cases:
            path = self.folder / "file.nemo"
            path.write_bytes(content)
            with self.subTest(sentence), self.assertRaisesRegex(ExportError, sentence):
                checkpoint.read(path, "file.nemo", None)

    def test_incomplete_archives(self):
        for members, sentence in (
            ({"model_weights.ckpt": b"w"}, "has no model_config.yaml"),
            ({"model_config.yaml": b"x: 1"}, "has no weights"),
        ):
            with self.subTest(sentence), self.assertRaisesRegex(ExportError, sentence):
                checkpoint.read(self.archive("lacking.nemo", members), "lacking.nemo", None)

    def test_invalid_paths(self):
        (self.folder / "inside.nemo").write_bytes(b"x")
        for name, sentence in (
            (
                str(self.folder),
                "directory without model_config.yaml: use the checkpoint itself, such as .*inside.nemo",
            ),
            (str(self.folder / "gone.nemo"), "does not exist"),
            ("./gone", "does not exist"),
        ):
            with self.subTest(name), self.assertRaisesRegex(ExportError, sentence):
                checkpoint.find(name, None)

    def test_unsupported_archive_is_rejected_before_nemo_is_loaded(self):
        settings = changed(loss={"loss_name": "tdt"})
        path = self.archive(
            "t.nemo", {"model_config.yaml": yaml.safe_dump(settings).encode(), "model_weights.ckpt": b"w"}
        )
        with mock.patch.dict("sys.modules", {"nemo.collections.asr.models": None}):
            code, _, stderr = export(path, self.folder / "out")
        self.assertEqual(code, 1)
        self.assertIn("TDT model", stderr)
        self.assertFalse((self.folder / "out").exists())


class Downloads(unittest.TestCase):
    """Without NeMo: its download functions are mocked."""

    def find(self, name: str, fetch=None):
        info = mock.Mock(pretrained_model_name="known_model")
        model = mock.Mock(list_available_models=lambda: [info], from_pretrained=fetch)
        with mock.patch.dict("sys.modules", {"nemo.collections.asr.models": mock.Mock(ASRModel=model)}):
            return checkpoint.find(name, lambda step: contextlib.nullcontext())

    def test_unknown_names_are_not_looked_up(self):
        with self.assertRaisesRegex(ExportError, "unknown_model is neither a local file nor a pretrained name"):
            self.find("unknown_model")

    def test_no_network(self):
        for error in ("HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url", "Connection refused"):
            fetch = mock.Mock(side_effect=OSError(error))
            with self.assertRaisesRegex(
                ExportError, r"known_model could not be downloaded \(no connection\): check the network"
            ):
                self.find("known_model", fetch)

    def test_error_of_the_hub_is_reported(self):
        fetch = mock.Mock(side_effect=ValueError("401 Client Error\nand a long page"))
        with self.assertRaisesRegex(ExportError, r"owner/model could not be downloaded \(401 Client Error\)"):
            self.find("owner/model", fetch)


class Machine(unittest.TestCase):
    def test_missing_modules(self):
        with mock.patch("importlib.util.find_spec", lambda name: None if name == "nemo" else True):
            with self.assertRaisesRegex(ExportError, r"no nemo_toolkit\[asr\]: run tools/export_nemo.sh"):
                preflight.require_modules()

    def test_memory(self):
        with mock.patch.object(preflight, "available_memory", lambda: 8_000_000_000):
            preflight.require_memory(460_000_000)
            with self.assertRaisesRegex(ExportError, "2.4 GB of weights takes about .* 8.0 GB are available"):
                preflight.require_memory(2_400_000_000)
        with mock.patch.object(preflight, "available_memory", lambda: None):
            preflight.require_memory(2_400_000_000)

    def test_disk(self):
        usage = mock.Mock(free=3_000_000_000)
        with mock.patch("shutil.disk_usage", lambda path: usage):
            preflight.require_disk(Path("/nowhere/yet"), 460_000_000, 1, 2)
            with self.assertRaisesRegex(ExportError, "3.0 GB are free in /"):
                preflight.require_disk(Path("/nowhere/yet"), 2_400_000_000, 1, 2)


class Comparison(unittest.TestCase):
    def test_windows_cover_a_clip_once(self):
        # Frames kept of a window: floor(T / 2) + 1 three times, minus the drop.
        halve = lambda frames: frames // 2 + 1
        for lookahead in (0, 1, 3, 6, 13):
            for frames in (1, 2, 8, 9, 10, 17, 105, 106, 113, 500):
                made = sum(
                    halve(halve(halve(end - begin))) - drop for begin, end, drop in runner.windows(frames, lookahead)
                )
                self.assertEqual(made, halve(halve(halve(frames))), (lookahead, frames))
        self.assertEqual(list(runner.windows(30, 0))[:3], [(0, 1, 0), (0, 9, 1), (0, 17, 2)])

    def test_edits(self):
        for found, expected, count in (([], [1, 2], 2), ([1, 2, 3], [1, 3], 1), ([1, 4], [1, 2], 1), ([5], [5], 0)):
            self.assertEqual(parity.edits(found, expected), count)

    def test_first_difference_is_named(self):
        self.assertEqual(parity.compare([1, 2], [1, 2]), "equal")
        self.assertEqual(parity.compare([1, 2], [1, 3]), "token 1 is 2, NeMo's is 3")
        self.assertEqual(parity.compare([1], [1, 3]), "token 1 is None, NeMo's is 3")


if __name__ == "__main__":
    unittest.main()
