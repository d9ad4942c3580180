// SPDX-License-Identifier: MIT OR Apache-2.0

//! `--hls`: the source's own picture and sound, with captions, as HTTP Live Streaming (RFC 8216).
//!
//! `hlssink3` writes the media in segments, as they come. Captions are known later. So a segment is listed only when its captions
//! are, and both playlists always list the same time:
//!
//! | from → to | file |
//! |---|---|
//! | encoded streams → segments of media, and messages about them | `pass_through.rs`, `elements.rs` |
//! | the media's time → that of captions; its timestamps | `timelines.rs`, `transport_stream.rs` |
//! | media and captions → what is listed when | `publisher.rs`, `window.rs` |
//! | what is listed → files | `split.rs`, `segment.rs`, `playlist.rs`, `directory.rs` |

mod directory;
mod elements;
mod pass_through;
mod playlist;
mod publisher;
mod segment;
mod split;
#[cfg(test)]
mod tests;
mod timelines;
mod transport_stream;
mod update;
mod window;

use std::{
    path::PathBuf,
    sync::{Arc, mpsc::Sender},
    time::Duration,
};

use directory::Directory;
use pass_through::PassThrough;
pub use publisher::Publisher;
pub use timelines::Anchor;
pub use update::Update;

use super::{args::Live, event::Event, source::Source};
use crate::{
    Result,
    audio::{Location, Tap},
};

/// Duration of a segment. It begins with a key frame, so it is longer if the source has fewer of them. Apple recommends 6 s; captions
/// are seen sooner with less.
const TARGET: Duration = Duration::from_secs(4);

/// Where the media of connections goes.
#[derive(Clone)]
pub struct Media {
    directory: PathBuf,
}

impl Media {
    /// What takes the media of a connection.
    ///
    /// # Errors
    /// If there is no space for temporary files.
    pub fn connect(&self, connection: u32, events: Sender<Event>) -> Result<Arc<dyn Tap>> {
        Ok(Arc::new(PassThrough::new(&self.directory, connection, events)?))
    }
}

/// Checks that the media of `source` can be passed through, as far as that is known before it is opened.
///
/// # Errors
/// One line: a plugin is missing, or what is possible.
pub fn check(source: &Source) -> Result<()> {
    elements::check()?;
    match source {
        Source::Location(Location::Url(_) | Location::File(_)) => Ok(()),
        _ => Err(format!(
            "--hls passes the picture and sound of a file or a URL through as they are, and {source} is neither: encode it before, \
             and give the URL of the stream"
        )
        .into()),
    }
}

/// Opens the directory that the command line names, if it does.
///
/// # Errors
/// One line, if it cannot be written.
pub fn open(arguments: &Live) -> Result<Option<Publisher>> {
    let Some(path) = &arguments.hls else {
        return Ok(None);
    };
    let directory = Directory::open(path)?;
    directory::media_template(directory.path(), 0)?;
    let language = arguments.speech.language.clone();
    Ok(Some(Publisher::new(directory, arguments.cues.rules()?, language)?))
}
