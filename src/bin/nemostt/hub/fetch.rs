// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt fetch`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    api::{HubApi, RemoteFile},
    cache::{Cache, Found},
    catalog,
    checksum::is_hex,
    download,
    env::HubEnv,
    error::{Error, Result},
    file_paths::FilePaths,
    file_selection::{self, Precision},
    model_ref::ModelRef,
    print_status,
};

/// Download a published model and print its path
///
/// The model is stored in the Hugging Face cache, which other programs share, or in --dir. Files that exist are not downloaded
/// again, interrupted downloads resume, and all checksums are verified.
///
/// nemostt transcribe --model $(nemostt fetch fastconformer-large-480ms) talk.wav
///
/// Environment: HF_ENDPOINT (a mirror), HF_TOKEN (for gated models), HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE,
/// HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE.
#[derive(Debug, Args)]
pub struct Fetch {
    /// A name from `nemostt models`, or OWNER/REPO[/FOLDER][@REVISION] on the hub
    #[arg(value_name = "NAME")]
    model: String,
    /// Store the files in this directory instead of the cache
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Precision of the graphs if the repository has several [default: the highest]
    #[arg(long)]
    precision: Option<Precision>,
}

impl Fetch {
    pub fn run(&self) -> crate::Result<()> {
        // `-` means standard output in options that name a file.
        if self.dir.as_deref() == Some(Path::new("-")) {
            return Err(Error::HyphenDirectory.into());
        }
        let settings = HubEnv::from_env()?;
        let model_ref = ModelRef::parse(&self.model, &catalog::models()?)?;
        let found = match &self.dir {
            Some(directory) => self.to_directory(&settings, &model_ref, directory)?,
            None => self.to_cache(&settings, &model_ref)?,
        };
        let checkpoint = found.names.iter().find(|name| name.ends_with(".nemo"));
        let path = match checkpoint {
            Some(checkpoint) => found.directory.join(checkpoint),
            None => found.directory,
        };
        writeln!(io::stdout(), "{}", path.display())?;
        if checkpoint.is_some() {
            print_status(format_args!(
                "this is a NeMo checkpoint, which must be exported before use. In the source directory of nemostt, run \
                 tools/export_nemo.sh {} DIRECTORY",
                path.display()
            ));
        }
        Ok(())
    }

    fn to_cache(&self, settings: &HubEnv, model_ref: &ModelRef) -> Result<Found> {
        let cache = Cache::new(settings, &model_ref.repository);
        let found = || cache.find(model_ref, self.precision);
        // A commit is immutable: no request is needed for one whose files are known.
        let is_pinned = model_ref.known.is_some() && is_hex(&model_ref.revision, 40);
        if let Some(found) = (is_pinned || settings.offline).then(found).flatten() {
            return Ok(found);
        }
        if settings.offline {
            return Err(offline(model_ref, &settings.cache));
        }
        let client = HubApi::new(settings)?;
        let remotes = match self.look_up(&client, model_ref) {
            Err(Error::Unreachable { host, reason }) => {
                let Some(found) = found() else {
                    return Err(Error::Unreachable { host, reason });
                };
                print_status(format_args!(
                    "{host} cannot be reached ({reason}): using the cached model"
                ));
                return Ok(found);
            }
            answered => answered?,
        };
        let paths = |remote: RemoteFile| {
            let paths = cache.paths(&remote);
            (remote, paths)
        };
        let files: Vec<(RemoteFile, FilePaths)> = remotes.into_iter().map(paths).collect();
        // The cache is content-addressed: existing files need no verification.
        download_missing(&client, &files, cache.directory(), FilePaths::exists)?;
        cache.link(model_ref, &files)
    }

    fn to_directory(&self, settings: &HubEnv, model_ref: &ModelRef, directory: &Path) -> Result<Found> {
        if settings.offline {
            let names: Option<Vec<String>> = model_ref
                .known
                .as_ref()
                .map(|model| model.files.iter().map(|file| file.name.clone()).collect());
            let names = names.filter(|names| names.iter().all(|name| directory.join(name).is_file()));
            let found = names.map(|names| Found {
                directory: directory.into(),
                names,
            });
            return found.ok_or_else(|| offline(model_ref, directory));
        }
        let client = HubApi::new(settings)?;
        let paths = |remote: RemoteFile| {
            let paths = FilePaths::in_directory(directory, &remote);
            (remote, paths)
        };
        let files: Vec<(RemoteFile, FilePaths)> = self.look_up(&client, model_ref)?.into_iter().map(paths).collect();
        let names: Vec<String> = files.iter().map(|(remote, _)| remote.name.clone()).collect();
        refuse_other_graphs(directory, &names)?;
        download_missing(&client, &files, directory, FilePaths::is_verified)?;
        Ok(Found {
            directory: directory.into(),
            names,
        })
    }

    /// Looks up all files of a model on the hub, all of one commit.
    fn look_up(&self, client: &HubApi, model_ref: &ModelRef) -> Result<Vec<RemoteFile>> {
        let mut revision = model_ref.revision.clone();
        let files: Vec<(String, Option<String>)> = match &model_ref.known {
            Some(model) => model
                .files
                .iter()
                .map(|file| (file.name.clone(), file.sha256.clone()))
                .collect(),
            None => {
                let (commit, paths) = client.list(model_ref)?;
                revision = commit;
                file_selection::choose(model_ref, &paths, self.precision)?
                    .into_iter()
                    .map(|name| (name, None))
                    .collect()
            }
        };
        let mut remotes = Vec::with_capacity(files.len());
        for (name, sha256) in files {
            let remote = client.file(model_ref, &revision, &name, sha256.as_deref())?;
            revision.clone_from(&remote.commit);
            remotes.push(remote);
        }
        Ok(remotes)
    }
}

/// Downloads the missing files.
fn download_missing(
    client: &HubApi,
    files: &[(RemoteFile, FilePaths)],
    directory: &Path,
    exists: impl Fn(&FilePaths, &RemoteFile) -> bool,
) -> Result<()> {
    let missing: Vec<&(RemoteFile, FilePaths)> =
        files.iter().filter(|(remote, paths)| !exists(paths, remote)).collect();
    download::require_space(&missing, directory)?;
    for (remote, paths) in missing {
        download::download(client, remote, paths)?;
    }
    Ok(())
}

/// Graphs of two models in one directory would be loaded as one model.
fn refuse_other_graphs(directory: &Path, names: &[String]) -> Result<()> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let there = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut others: Vec<String> = there
        .filter(|name| name.ends_with(".onnx") && !names.contains(name))
        .collect();
    others.sort();
    if others.is_empty() {
        return Ok(());
    }
    Err(Error::NotEmpty {
        directory: directory.into(),
        names: others,
    })
}

fn offline(model_ref: &ModelRef, cache: &Path) -> Error {
    Error::Offline {
        what: model_ref.name().into(),
        cache: cache.into(),
    }
}
