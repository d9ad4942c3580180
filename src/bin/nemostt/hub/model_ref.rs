// SPDX-License-Identifier: MIT OR Apache-2.0

//! The reference to a model on the command line.

use super::{
    catalog::{self, Model},
    error::{Error, Result},
};

/// The default branch.
const BRANCH: &str = "main";

/// A model on the hub.
#[derive(Debug)]
pub struct ModelRef {
    /// `OWNER/REPO`.
    pub repository: String,
    /// Folder in it; empty for none.
    pub folder: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Its entry in the catalog, which lists its files. Without one, the hub lists them.
    pub known: Option<Model>,
}

impl ModelRef {
    /// A short name, or `OWNER/REPO[/FOLDER][@REVISION]`.
    pub fn parse(name: &str, models: &[Model]) -> Result<Self> {
        if let Some(model) = models.iter().find(|model| model.name.eq_ignore_ascii_case(name)) {
            return Ok(Self::from(model));
        }
        if !name.contains('/') {
            let nearest = catalog::nearest(models, name);
            return Err(Error::Unknown {
                name: name.into(),
                nearest,
            });
        }
        let bad = || Error::BadName(name.into());
        let (path, revision) = name.split_once('@').unwrap_or((name, BRANCH));
        let mut parts = path.splitn(3, '/');
        let (Some(owner), Some(repository)) = (parts.next(), parts.next()) else {
            return Err(bad());
        };
        let folder = parts.next().unwrap_or_default().trim_matches('/');
        // These become path components in the cache.
        if [owner, repository]
            .into_iter()
            .chain(folder.split('/').filter(|part| !part.is_empty()))
            .any(is_invalid_name)
            || revision.split('/').any(is_invalid_name)
        {
            return Err(bad());
        }
        Ok(Self {
            repository: format!("{owner}/{repository}"),
            folder: folder.into(),
            revision: revision.into(),
            known: None,
        })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        self.known.as_ref().map_or(&self.repository, |model| &model.name)
    }

    /// A file's path in the repository.
    pub fn path(&self, file: &str) -> String {
        match self.folder.as_str() {
            "" => file.into(),
            folder => format!("{folder}/{file}"),
        }
    }
}

impl From<&Model> for ModelRef {
    fn from(model: &Model) -> Self {
        Self {
            repository: model.repository.clone(),
            folder: model.folder.clone(),
            revision: model.revision.clone().unwrap_or_else(|| BRANCH.into()),
            known: Some(model.clone()),
        }
    }
}

/// Whether `part` is not a plain file name: not valid as a path component, or one that leads to another directory.
pub fn is_invalid_name(part: &str) -> bool {
    part.is_empty() || part == "." || part == ".." || part.contains(['\\', '/', ':']) || part.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<ModelRef> {
        ModelRef::parse(name, &catalog::models().unwrap())
    }

    #[test]
    fn repositories_may_have_folders_and_revisions() {
        for (name, repository, folder, revision) in [
            ("a/b", "a/b", "", "main"),
            ("a/b@v1", "a/b", "", "v1"),
            ("a/b@refs/pr/1", "a/b", "", "refs/pr/1"),
            ("a/b/c/d@1234", "a/b", "c/d", "1234"),
            ("a/b/c/", "a/b", "c", "main"),
        ] {
            let model_ref = parse(name).unwrap();
            let found = (
                model_ref.repository.as_str(),
                model_ref.folder.as_str(),
                model_ref.revision.as_str(),
            );
            assert_eq!(found, (repository, folder, revision), "{name}");
        }
    }

    #[test]
    fn path_traversal_is_rejected() {
        for name in [
            "../b",
            "a/..",
            "a/b/../../c",
            "a/b@../../x",
            "a/b@",
            "/b",
            "a/",
            "a/b\\c",
            "a/b@x/../y",
        ] {
            assert!(matches!(parse(name), Err(Error::BadName(_))), "{name}");
        }
    }

    #[test]
    fn short_names_are_resolved_by_the_catalog() {
        let model_ref = parse("EOU-120m").unwrap();
        assert_eq!(model_ref.repository, "altunenes/parakeet-rs");
        assert_eq!(model_ref.path("encoder.onnx"), "realtime_eou_120m-v1-onnx/encoder.onnx");
        assert_eq!(model_ref.name(), "eou-120m");
        assert!(matches!(parse("eou"), Err(Error::Unknown { .. })));
    }
}
