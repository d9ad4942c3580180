// SPDX-License-Identifier: MIT OR Apache-2.0

//! Corrupt cache entries, and directories that cannot be written to.

use std::{fs, path::Path};

use serde_json::Value;

use super::{caching_options, entry, files, hits, logged, transcribe, transcribe_uncached};
use crate::common::model_path;

/// Length of the prefix: magic, length of the header, its hash.
const PREFIX: usize = 8 + 8 + 32;

/// A parsed entry: its header, and everything after it.
pub struct Entry {
    pub header: Value,
    pub sections: Vec<u8>,
}

impl Entry {
    pub fn of(bytes: &[u8]) -> Self {
        let length = u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
        let (header, sections) = bytes[PREFIX..].split_at(length);
        Self {
            header: serde_json::from_slice(header).unwrap(),
            sections: sections.into(),
        }
    }

    /// The contents of the file, with a valid hash of the header.
    pub fn bytes(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).unwrap();
        let length = (header.len() as u64).to_le_bytes();
        let hash = blake3::hash(&header);
        [&b"nemostt\x01"[..], &length, hash.as_bytes(), &header, &self.sections].concat()
    }

    /// Changes the graph, which is the first part, and updates its hash.
    fn change_graph(&mut self, change: impl Fn(&mut [u8])) {
        let [length, hash] = self.header["graph"][0].as_array_mut().unwrap().as_mut_slice() else {
            panic!("a graph of this size is a single part");
        };
        let graph = &mut self.sections[..length.as_u64().unwrap() as usize];
        change(graph);
        *hash = blake3::hash(graph).to_hex().to_string().into();
    }
}

/// Sets field `name` of all states.
fn set_in_all_states(entry: &mut Entry, name: &str, value: &Value) {
    for state in entry.header["states"].as_array_mut().unwrap() {
        state[name] = value.clone();
    }
}

/// Starts with each of `entries` in place of the valid one, and asserts that it is rebuilt exactly.
fn assert_rebuilt(entries: impl Fn(&[u8]) -> Vec<(String, Vec<u8>)>) {
    let directory = tempfile::tempdir().unwrap();
    let options = caching_options(directory.path());
    let model = model_path("trained");
    let expected = transcribe(&model, &options);
    let path = entry(directory.path());
    let valid = fs::read(&path).unwrap();
    for (number, (name, corrupt)) in entries(&valid).into_iter().enumerate() {
        assert!(corrupt != valid, "{name}");
        fs::write(&path, corrupt).unwrap();
        assert!(transcribe(&model, &options) == expected, "{name}");
        assert_eq!(logged("cannot be used", directory.path()), number + 1, "{name}");
        assert_eq!(entry(directory.path()), path, "{name}");
        assert!(fs::read(&path).unwrap() == valid, "{name}");
    }
    let previous_hits = hits(directory.path());
    assert!(transcribe(&model, &options) == expected);
    assert_eq!(hits(directory.path()), previous_hits + 1);
}

#[test]
fn corrupt_entry_is_rebuilt() {
    assert_rebuilt(|valid| {
        let mut all: Vec<(String, Vec<u8>)> = Vec::new();
        for length in [0, 7, PREFIX, PREFIX + 100, valid.len() / 2, valid.len() - 1] {
            all.push((format!("cut to {length}"), valid[..length].into()));
        }
        for position in [
            0,
            7,
            8,
            15,
            20,
            PREFIX + 10,
            valid.len() / 3,
            valid.len() / 2,
            valid.len() - 1,
        ] {
            let mut flipped = valid.to_vec();
            flipped[position] ^= 0x40;
            all.push((format!("a bit of byte {position}"), flipped));
        }
        all.push(("longer".into(), [valid, &[0]].concat()));
        all.push(("garbage".into(), vec![0xa5; valid.len()]));
        all.push((
            "text".into(),
            b"this is plain text and not a cache entry, whatever its name is".into(),
        ));
        all
    });
}

#[test]
fn entry_that_does_not_run_is_rebuilt() {
    assert_rebuilt(|valid| {
        let with = |name: &str, change: &dyn Fn(&mut Entry)| {
            let mut entry = Entry::of(valid);
            change(&mut entry);
            (name.to_owned(), entry.bytes())
        };
        vec![
            with("another width", &|entry| entry.header["width"] = 99.into()),
            with("windows too short for a chunk", &|entry| {
                entry.header["width"] = 1.into()
            }),
            with("no width", &|entry| entry.header["width"] = Value::Null),
            with("more new rows than rows", &|entry| {
                set_in_all_states(entry, "new_rows", &1_000_000.into())
            }),
            with("rings not marked as such", &|entry| {
                set_in_all_states(entry, "is_ring", &false.into());
            }),
            with("other caches marked as rings", &|entry| {
                for state in entry.header["states"].as_array_mut().unwrap() {
                    state["is_ring"] = (state["is_ring"] == false && !state["new_rows"].is_null()).into();
                }
            }),
            with("zero new rows", &|entry| {
                set_in_all_states(entry, "new_rows", &0.into())
            }),
            with("empty rows", &|entry| {
                set_in_all_states(entry, "dims", &vec![1, 6, 70, 0].into())
            }),
            with("states with one axis", &|entry| {
                set_in_all_states(entry, "dims", &vec![70].into())
            }),
            with("states larger than memory", &|entry| {
                set_in_all_states(entry, "dims", &vec![1_u64 << 40, 1 << 40, 1 << 40].into())
            }),
            with("rings without new rows", &|entry| {
                set_in_all_states(entry, "new_rows", &Value::Null);
                set_in_all_states(entry, "is_ring", &true.into());
            }),
            with("a huge weight", &|entry| {
                entry.change_graph(|graph| {
                    // The length of an external weight, in decimal digits.
                    let name = b"length\x12";
                    let position = graph.windows(name.len()).position(|part| part == name).unwrap();
                    graph[position + name.len() + 1] = b'9';
                });
            }),
            with("no states", &|entry| entry.header["states"] = Value::Array(Vec::new())),
            with("the key of another graph", &|entry| {
                entry.header["key"] = "0".repeat(64).into()
            }),
            with("an invalid graph", &|entry| {
                entry.change_graph(|graph| graph.fill(0xa5))
            }),
            with("an unknown operator", &|entry| {
                entry.change_graph(|graph| {
                    let name = b"DynamicQuantizeLinear";
                    let position = graph.windows(name.len()).position(|part| part == name).unwrap();
                    graph[position] = b'X';
                });
            }),
            with("missing packed weights", &|entry| {
                let weights = serde_json::json!({
                    "format": "F32", "k": 1_u64 << 40, "n": 1 << 20, "epilogue": "Identity"
                });
                entry.header["packed_weights"].as_array_mut().unwrap().push(weights);
            }),
            with("lengths larger than memory", &|entry| {
                entry.header["panels"] =
                    serde_json::json!([[u64::MAX / 2, "0".repeat(64)], [u64::MAX / 2, "0".repeat(64)]]);
            }),
            with("the header of another version", &|entry| {
                drop(entry.header.as_object_mut().unwrap().remove("precision"))
            }),
        ]
    });
}

#[test]
fn unwritable_directory_is_ignored() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let model = model_path("trained");
    let check = |directory: &Path| {
        let options = caching_options(directory);
        for _ in 0..2 {
            assert!(transcribe(&model, &options) == transcribe_uncached(&model, &options));
        }
        assert_eq!(logged("is not cached", directory), 2);
        assert_eq!(hits(directory), 0);
    };
    check(&file);
    check(&file.join("beyond"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let closed = root.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        // Root can write there.
        if fs::write(closed.join("try"), "").is_err() {
            check(&closed);
            assert!(files(&closed).is_empty());
        }
    }
}

/// Entries that another user, or a member of the group, may have planted.
#[cfg(unix)]
mod planted {
    use std::{
        fs::{Permissions, metadata, set_permissions},
        os::unix::fs::{MetadataExt, PermissionsExt, chown},
        process::Command,
    };

    use super::*;

    fn is_root() -> bool {
        metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
    }

    #[test]
    fn entry_writable_by_others_is_rebuilt() {
        let directory = tempfile::tempdir().unwrap();
        let options = caching_options(directory.path());
        let model = model_path("trained");
        let expected = transcribe(&model, &options);
        let path = entry(directory.path());
        let open = |mode| move |path: &Path| set_permissions(path, Permissions::from_mode(mode)).unwrap();
        type Planting = (&'static str, Box<dyn Fn(&Path)>);
        let mut plants: Vec<Planting> = vec![
            ("world-writable", Box::new(open(0o646))),
            ("group-writable", Box::new(open(0o664))),
            (
                "a pipe",
                Box::new(|path| {
                    fs::remove_file(path).unwrap();
                    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
                }),
            ),
            (
                "a device",
                Box::new(|path| {
                    fs::remove_file(path).unwrap();
                    std::os::unix::fs::symlink("/dev/zero", path).unwrap();
                }),
            ),
        ];
        // Only root can give files away.
        if is_root() {
            plants.push((
                "owned by another user",
                Box::new(|path| chown(path, Some(4242), None).unwrap()),
            ));
        }
        for (number, (name, plant)) in plants.iter().enumerate() {
            plant(&path);
            assert!(transcribe(&model, &options) == expected, "{name}");
            assert_eq!(logged("cannot be used", directory.path()), number + 1, "{name}");
            let rebuilt = metadata(&path).unwrap();
            assert_eq!((rebuilt.is_file(), rebuilt.mode() & 0o022), (true, 0), "{name}");
        }
    }

    #[test]
    fn directory_writable_by_others_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let options = caching_options(directory.path());
        let model = model_path("trained");
        let expected = transcribe(&model, &options);
        let path = entry(directory.path());
        let check = |times| {
            let previous_hits = hits(directory.path());
            assert!(transcribe(&model, &options) == expected);
            assert_eq!(hits(directory.path()), previous_hits);
            assert_eq!(logged("does not use the cache", directory.path()), times);
        };
        for (times, mode) in [0o777, 0o1777, 0o770].into_iter().enumerate() {
            set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            check(times + 1);
        }
        set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            chown(directory.path(), Some(4242), None).unwrap();
            check(4);
            chown(directory.path(), Some(0), None).unwrap();
        }
        let previous_hits = hits(directory.path());
        assert!(transcribe(&model, &options) == expected);
        assert_eq!(hits(directory.path()), previous_hits + 1);
        assert_eq!(entry(directory.path()), path);
    }
}
