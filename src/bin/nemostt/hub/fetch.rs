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

/// Download a published model, and print where it is
///
/// It goes into the cache that all programs share which use the Hugging Face hub, or into --dir. What is there already
/// is not fetched again, an interrupted download goes on where it stopped, and every file is checked.
///
/// nemostt transcribe --model $(nemostt fetch fastconformer-large-480ms) talk.wav
///
/// Environment: HF_ENDPOINT (a mirror), HF_TOKEN (for models that need one), HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE,
/// HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE.
#[derive(Debug, Args)]
pub struct Fetch {
    /// A name that `nemostt models` lists, or OWNER/REPO[/FOLDER][@REVISION] on the hub
    #[arg(value_name = "NAME")]
    model: String,
    /// Put the files into this directory instead of the cache
    #[arg(long, value_parser = crate::directory())]
    dir: Option<PathBuf>,
    /// Which graphs to take where a repository has several of a kind [default: the most precise]
    #[arg(long)]
    precision: Option<Precision>,
}

impl Fetch {
    pub fn run(&self) -> crate::Result<()> {
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
                "this is a checkpoint of NeMo's, no model yet. Export it, with the script from nemostt's sources: \
                 tools/export_nemo.sh {} DIRECTORY",
                path.display()
            ));
        }
        Ok(())
    }

    fn to_cache(&self, settings: &HubEnv, model_ref: &ModelRef) -> Result<Found> {
        let cache = Cache::new(settings, &model_ref.repository);
        let found = || cache.find(model_ref, self.precision);
        // A commit does not change; nobody needs to be asked about one whose files are known.
        let is_pinned = model_ref.known.is_some() && is_hex(&model_ref.revision, 40);
        if let Some(found) = (is_pinned || settings.offline).then(found).flatten() {
            return Ok(found);
        }
        if settings.offline {
            return Err(offline(model_ref, &settings.cache));
        }
        let client = HubApi::new(settings)?;
        let remotes = match self.ask(&client, model_ref) {
            Err(Error::Unreachable { host, reason }) => {
                let Some(found) = found() else {
                    return Err(Error::Unreachable { host, reason });
                };
                print_status(format_args!(
                    "{host} cannot be reached ({reason}): this is what was fetched before"
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
        // The name of the bytes is what they are: those that are there need no second look.
        bring(&client, &files, cache.directory(), FilePaths::is_there)?;
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
        let files: Vec<(RemoteFile, FilePaths)> = self.ask(&client, model_ref)?.into_iter().map(paths).collect();
        let names: Vec<String> = files.iter().map(|(remote, _)| remote.name.clone()).collect();
        refuse_other_graphs(directory, &names)?;
        bring(&client, &files, directory, FilePaths::is_right)?;
        Ok(Found {
            directory: directory.into(),
            names,
        })
    }

    /// Asks the hub about all files of a model, all of one commit.
    fn ask(&self, client: &HubApi, model_ref: &ModelRef) -> Result<Vec<RemoteFile>> {
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

/// Brings what is not there.
fn bring(
    client: &HubApi,
    files: &[(RemoteFile, FilePaths)],
    directory: &Path,
    is_there: impl Fn(&FilePaths, &RemoteFile) -> bool,
) -> Result<()> {
    let missing: Vec<&(RemoteFile, FilePaths)> = files
        .iter()
        .filter(|(remote, paths)| !is_there(paths, remote))
        .collect();
    download::make_sure_of_space(&missing, directory)?;
    for (remote, paths) in missing {
        download::download(client, remote, paths)?;
    }
    Ok(())
}

/// Graphs of two models in one directory would be taken for one model.
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
