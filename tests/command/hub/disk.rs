// SPDX-License-Identifier: MIT OR Apache-2.0

//! Full disks.

use std::{fs, path::Path, process::Command};

#[cfg(target_os = "linux")]
use tempfile::TempDir;

use super::{
    server::sha256,
    setting::{GRAPH, REPOSITORY, Setting, assert_error_contains, noise, site, stdout_of},
};

/// Simulates a full file system with the file size limit of the process.
#[test]
fn full_disk_is_reported_and_partial_download_kept() {
    let graph = noise(300_000);
    let setting = Setting::new(site(&graph));
    let mut command = Command::new("bash");
    setting.prepare(&mut command);
    // 100 KB; without the trap, the signal would end the process before it reports the error.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" fetch \"$1\"";
    let output = command
        .args(["-c", script, env!("CARGO_BIN_EXE_nemostt"), REPOSITORY])
        .output()
        .unwrap();
    assert_error_contains(&output, &["the disk is full", "incomplete", "run the command again"]);
    assert!(!setting.cached("blobs").join(sha256(&graph)).exists());
    assert!(!setting.snapshot("").exists());
    let output = setting.fetch(&[REPOSITORY]);
    assert_eq!(fs::read(Path::new(stdout_of(&output)).join(GRAPH)).unwrap(), graph);
    assert_eq!(
        setting.hub.ranges(GRAPH).last().unwrap().as_deref(),
        Some("bytes=102400-")
    );
}

/// A file system of 1 MB, if mounting is allowed.
#[cfg(target_os = "linux")]
struct SmallDisk(TempDir);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(directory.path())
            .output();
        mount
            .is_ok_and(|output| output.status.success())
            .then_some(Self(directory))
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn free_space_is_checked_before_and_during_a_download() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: cannot mount a tmpfs; run as root to test with a full disk");
        return;
    };
    let directory = disk.0.path().join("model");
    let arguments = [REPOSITORY, "--dir", directory.to_str().unwrap()];
    let setting = Setting::new(site(&noise(2_000_000)));
    assert_error_contains(&setting.fetch(&arguments), &["2.00 MB are needed", "free", "--dir"]);
    assert_eq!(setting.hub.ranges(GRAPH), [None::<String>; 0]);

    // Another program fills it during the download.
    let graph = noise(900_000);
    let filler = disk.0.path().join("filler");
    let setting = Setting::new(site(&graph).with({
        let filler = filler.clone();
        move |request, _| {
            if request.is_storage && request.before == 0 {
                fs::write(&filler, noise(500_000)).unwrap();
            }
        }
    }));
    assert_error_contains(&setting.fetch(&arguments), &["the disk is full", "incomplete"]);
    assert!(!directory.join(GRAPH).exists());
    fs::remove_file(filler).unwrap();
    stdout_of(&setting.fetch(&arguments));
    assert_eq!(fs::read(directory.join(GRAPH)).unwrap(), graph);
    assert!(
        setting.hub.ranges(GRAPH).last().unwrap().is_some(),
        "{:?}",
        setting.hub.ranges(GRAPH)
    );
}
