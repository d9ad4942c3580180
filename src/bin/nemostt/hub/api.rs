// SPDX-License-Identifier: MIT OR Apache-2.0

//! The hub's API: the files of a repository, and URL, size and checksum of each.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::{Body, http::Response};

use super::{
    checksum::{Checksum, is_hex},
    env::HubEnv,
    error::{Error, Result},
    headers,
    http::{HttpClient, RequestContext, host, no_response},
    model_ref::{ModelRef, is_invalid_name},
    retry::{Failure, retry},
};

/// Characters to be encoded in a path component: all but the unreserved ones (RFC 3986).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A file on the hub.
#[derive(Debug)]
pub struct RemoteFile {
    pub repository: String,
    /// File name without the folder.
    pub name: String,
    pub url: String,
    /// The commit.
    pub commit: String,
    /// The hub's identifier of the contents.
    pub etag: String,
    pub size: u64,
    /// `None` if neither the hub nor the catalog has one.
    pub checksum: Option<Checksum>,
}

/// The API of a hub.
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

    /// The commit of a revision, and the paths of its files.
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
                .map_err(|error| no_response(&url, &error))
        })?;
        let no_hub = |fault: String| Error::NoHub {
            host: host(&url),
            url: url.clone(),
            fault,
        };
        let listing: Listing =
            serde_json::from_str(&text).map_err(|error| no_hub(format!("is not a list of files ({error})")))?;
        if is_invalid_name(&listing.sha) {
            return Err(no_hub(format!("has the invalid commit \"{}\"", listing.sha)));
        }
        let paths = listing.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok((listing.sha, paths))
    }

    /// Looks up one file. `sha256` is the checksum in the catalog.
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
        let requested = url(revision);
        let about = RequestContext {
            repository: &model_ref.repository,
            revision,
            file: Some(&path),
        };
        let response = retry(|| self.transport.head(&requested, about))?;

        let no_hub = |fault: &str| Error::NoHub {
            host: host(&requested),
            url: requested.clone(),
            fault: fault.into(),
        };
        let commit = headers::text(&response, "x-repo-commit").map(str::to_owned);
        // Mirrors may omit it, but the requested revision may be a commit.
        let commit = commit.or_else(|| is_hex(revision, 40).then(|| revision.to_owned()));
        let commit = commit
            .filter(|commit| !is_invalid_name(commit))
            .ok_or_else(|| no_hub("has no X-Repo-Commit header"))?;
        let linked = headers::tag(&response, "x-linked-etag");
        let etag = linked.clone().or_else(|| headers::tag(&response, "etag"));
        let etag = etag
            .filter(|etag| !is_invalid_name(etag))
            .ok_or_else(|| no_hub("has no ETag header"))?;
        let length = if response.status().is_success() {
            "content-length"
        } else {
            ""
        };
        let size = headers::number(&response, "x-linked-size").or_else(|| headers::number(&response, length));
        let size = size.ok_or_else(|| no_hub("does not have the length of the file"))?;
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

    /// The contents of a file from `start` on, if the server supports ranges.
    pub fn get(&self, remote: &RemoteFile, start: u64) -> Result<Response<Body>, Failure> {
        let about = RequestContext {
            repository: &remote.repository,
            revision: &remote.commit,
            file: Some(&remote.name),
        };
        self.transport.get(&remote.url, (start > 0).then_some(start), about)
    }
}

/// The expected checksum of a file. The catalog's has priority, because the hub's file may have been replaced.
fn checksum(path: &str, linked: Option<&str>, etag: &str, known: Option<&str>) -> Result<Option<Checksum>> {
    // Only X-Linked-Etag is the SHA-256: the ETag of a large file may be an identifier of the storage.
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
    fn the_catalogs_checksum_has_priority() {
        let git = &A[..40];
        let sha256 = |hex: &str| Some(Checksum::Sha256(hex.into()));
        assert_eq!(checksum("f", Some(A), A, None).unwrap(), sha256(A));
        assert_eq!(
            checksum("f", None, git, None).unwrap(),
            Some(Checksum::GitBlob(git.into()))
        );
        assert_eq!(checksum("f", None, git, Some(B)).unwrap(), sha256(B));
        assert_eq!(checksum("f", Some(B), B, Some(B)).unwrap(), sha256(B));
        // The storage's ETag is not a checksum.
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
