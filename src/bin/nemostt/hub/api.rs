// SPDX-License-Identifier: MIT OR Apache-2.0

//! Asks the hub: which files a repository has, where each is, how long it is and what it must add up to.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::{Body, http::Response};

use super::{
    checksum::{Checksum, is_hex},
    env::HubEnv,
    error::{Error, Result},
    headers,
    http::{HttpClient, RequestContext, host, unanswered},
    model_ref::{ModelRef, is_no_name},
    retry::{Failure, retry},
};

/// What stays as it is in a part of a path (RFC 3986, "unreserved").
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A file on the hub.
#[derive(Debug)]
pub struct RemoteFile {
    pub repository: String,
    /// Its name without the folder.
    pub name: String,
    pub url: String,
    /// The commit that it is part of.
    pub commit: String,
    /// What the hub calls these bytes.
    pub etag: String,
    pub size: u64,
    /// None where neither hub nor catalogue know one.
    pub checksum: Option<Checksum>,
}

/// A hub.
#[derive(Debug)]
pub struct HubApi {
    transport: HttpClient,
}

#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl HubApi {
    pub fn new(settings: &HubEnv) -> Result<Self> {
        let transport = HttpClient::new(settings)?;
        Ok(Self { transport })
    }

    /// The commit that a revision is, and the paths of all files.
    pub fn list(&self, model_ref: &ModelRef) -> Result<(String, Vec<String>)> {
        let (repository, revision) = (model_ref.repository.as_str(), model_ref.revision.as_str());
        let url = format!(
            "{}/api/models/{repository}/revision/{}",
            self.transport.endpoint(),
            encoded(revision)
        );
        let about = RequestContext {
            repository,
            revision,
            file: None,
        };
        let text = retry(|| {
            let mut response = self.transport.get(&url, None, about)?;
            response
                .body_mut()
                .read_to_string()
                .map_err(|error| unanswered(&url, &error))
        })?;
        let no_hub = |fault: String| Error::NoHub {
            host: host(&url),
            url: url.clone(),
            fault,
        };
        let listing: Listing =
            serde_json::from_str(&text).map_err(|error| no_hub(format!("is no list of files ({error})")))?;
        if is_no_name(&listing.sha) {
            return Err(no_hub(format!("names \"{}\" as the commit", listing.sha)));
        }
        let paths = listing.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok((listing.sha, paths))
    }

    /// Asks about one file. `sha256` is what the catalogue knows.
    pub fn file(&self, model_ref: &ModelRef, revision: &str, name: &str, sha256: Option<&str>) -> Result<RemoteFile> {
        let path = model_ref.path(name);
        let url = |revision: &str| {
            let path: Vec<String> = path.split('/').map(encoded).collect();
            let (repository, revision) = (&model_ref.repository, encoded(revision));
            format!(
                "{}/{repository}/resolve/{revision}/{}",
                self.transport.endpoint(),
                path.join("/")
            )
        };
        let asked = url(revision);
        let about = RequestContext {
            repository: &model_ref.repository,
            revision,
            file: Some(&path),
        };
        let response = retry(|| self.transport.head(&asked, about))?;

        let no_hub = |fault: &str| Error::NoHub {
            host: host(&asked),
            url: asked.clone(),
            fault: fault.into(),
        };
        let commit = headers::text(&response, "x-repo-commit").map(str::to_owned);
        // A mirror may not say it; whoever asked for a commit knows it.
        let commit = commit.or_else(|| is_hex(revision, 40).then(|| revision.to_owned()));
        let commit = commit
            .filter(|commit| !is_no_name(commit))
            .ok_or_else(|| no_hub("lacks X-Repo-Commit"))?;
        let linked = headers::tag(&response, "x-linked-etag");
        let etag = linked.clone().or_else(|| headers::tag(&response, "etag"));
        let etag = etag
            .filter(|etag| !is_no_name(etag))
            .ok_or_else(|| no_hub("lacks an ETag"))?;
        let length = if response.status().is_success() {
            "content-length"
        } else {
            ""
        };
        let size = headers::number(&response, "x-linked-size").or_else(|| headers::number(&response, length));
        let size = size.ok_or_else(|| no_hub("does not say how long the file is"))?;
        Ok(RemoteFile {
            repository: model_ref.repository.clone(),
            name: name.into(),
            url: url(&commit),
            checksum: checksum(&path, linked.as_deref(), &etag, sha256)?,
            commit,
            etag,
            size,
        })
    }

    /// The bytes of a file from `start` on, as far as the server heeds that.
    pub fn get(&self, remote: &RemoteFile, start: u64) -> Result<Response<Body>, Failure> {
        let about = RequestContext {
            repository: &remote.repository,
            revision: &remote.commit,
            file: Some(&remote.name),
        };
        self.transport.get(&remote.url, (start > 0).then_some(start), about)
    }
}

/// What a file must add up to. The catalogue's word counts more than the hub's, which may have another file by now.
fn checksum(path: &str, linked: Option<&str>, etag: &str, known: Option<&str>) -> Result<Option<Checksum>> {
    // Only X-Linked-Etag is the SHA-256: the ETag of a large file may be the name that its storage gave it.
    let linked = linked.filter(|tag| is_hex(tag, 64)).map(str::to_ascii_lowercase);
    Ok(match (known, linked) {
        (Some(known), Some(linked)) if linked != known => {
            return Err(Error::Replaced {
                file: path.into(),
                found: linked,
                expected: known.into(),
            });
        }
        (Some(known), _) => Some(Checksum::Sha256(known.into())),
        (None, Some(linked)) => Some(Checksum::Sha256(linked)),
        (None, None) => is_hex(etag, 40).then(|| Checksum::GitBlob(etag.to_ascii_lowercase())),
    })
}

fn encoded(part: &str) -> String {
    utf8_percent_encode(part, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn the_catalogs_checksum_counts_most() {
        let git = &A[..40];
        let sha256 = |hex: &str| Some(Checksum::Sha256(hex.into()));
        assert_eq!(checksum("f", Some(A), A, None).unwrap(), sha256(A));
        assert_eq!(
            checksum("f", None, git, None).unwrap(),
            Some(Checksum::GitBlob(git.into()))
        );
        assert_eq!(checksum("f", None, git, Some(B)).unwrap(), sha256(B));
        assert_eq!(checksum("f", Some(B), B, Some(B)).unwrap(), sha256(B));
        // The ETag of a storage is no checksum.
        assert_eq!(checksum("f", None, A, None).unwrap(), None);
        assert!(matches!(
            checksum("f", Some(A), A, Some(B)),
            Err(Error::Replaced { .. })
        ));
    }

    #[test]
    fn revisions_and_names_are_encoded() {
        assert_eq!(encoded("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(encoded("a b?#.onnx"), "a%20b%3F%23.onnx");
    }
}
