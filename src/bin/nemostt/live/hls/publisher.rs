// SPDX-License-Identifier: MIT OR Apache-2.0

//! Decides when a segment is listed, and writes what then changes.
//!
//! A caption is final when its speaker pauses, or after [`MAX_UTTERANCE`]. Listed as soon as captions are known, segments would come
//! in bursts with long breaks, in which players run dry. So each is listed [`DELAY`] after its end.

use std::{collections::VecDeque, fs, ops::Range, time::Duration};

use nemostt::cues::{Cue, CueBuilder, CueRules};

use super::{
    Media, TARGET,
    directory::{CAPTIONS, Directory, MEDIA, MULTIVARIANT, captions_name},
    playlist::{Format, Segment, multivariant},
    segment, split,
    timelines::Timelines,
    transport_stream::{self, Kind},
    update::{MediaSegment, Update},
    window::Window,
};
use crate::live::{caption::Caption, captioner::MAX_UTTERANCE};

/// How long after its end a segment is listed: the longest utterance, and two seconds for its pause and for computing.
const DELAY: Duration = Duration::from_millis(MAX_UTTERANCE as u64 + 2_000);

/// Writes captions and playlists.
pub struct Publisher {
    directory: Directory,
    language: Option<String>,
    cues: CueBuilder,
    /// Cues that may be in segments to come.
    built: Vec<Cue>,
    /// All cues that begin before this time of the session are known.
    settled: Duration,
    timelines: Timelines,
    /// Segments that are not listed yet.
    waiting: VecDeque<MediaSegment>,
    window: Window,
    /// Connection of the segment that was listed last.
    connection: Option<u32>,
    /// A segment after it was left out.
    is_interrupted: bool,
    /// Of that segment.
    format: Format,
    /// Most bits per second of a segment.
    bandwidth: u64,
    /// The multivariant playlist that was written last.
    multivariant: String,
}

impl Publisher {
    /// With captions in `language`, if it is known.
    ///
    /// # Errors
    /// If the rules contradict each other.
    pub fn new(directory: Directory, rules: CueRules, language: Option<String>) -> Result<Self, String> {
        Ok(Self {
            directory,
            // Languages are given as in RFC 5646; a quote would end the attribute.
            language: language.filter(|language| {
                language
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            }),
            cues: CueBuilder::new(rules).map_err(|error| error.to_string())?,
            built: Vec::new(),
            settled: Duration::ZERO,
            timelines: Timelines::default(),
            waiting: VecDeque::new(),
            window: Window::new(TARGET),
            connection: None,
            is_interrupted: false,
            format: Format::default(),
            bandwidth: 0,
            multivariant: String::new(),
        })
    }

    /// Where the media goes.
    pub fn media(&self) -> Media {
        Media {
            directory: self.directory.path().into(),
        }
    }

    /// Takes a final caption.
    pub fn caption(&mut self, caption: &Caption) {
        caption.add_to(&mut self.cues, 0);
        self.cues.flush();
        while let Some(cue) = self.cues.next_cue() {
            self.built.push(cue);
        }
    }

    /// All captions that begin before this time of the session are known.
    pub fn settled(&mut self, time: Duration) {
        self.settled = self.settled.max(time);
    }

    /// Takes what became known of the media.
    pub fn update(&mut self, update: Update) {
        match update {
            Update::Placed { connection, anchor } => self.timelines.place(connection, anchor),
            Update::Segment(segment) => {
                self.window.expect(segment.duration);
                self.waiting.push_back(segment);
            }
            Update::Ended { connection, until } => {
                let is_surplus = |segment: &MediaSegment| {
                    segment.connection == connection && until.is_some_and(|until| segment.start >= until)
                };
                let (surplus, waiting) = self.waiting.drain(..).partition(is_surplus);
                self.waiting = waiting;
                for segment in surplus {
                    self.directory.remove(&segment.file);
                }
            }
        }
    }

    /// Lists the segments that are due at `now`, a time of the session. Returns whether there are any.
    ///
    /// # Errors
    /// One line, if a file cannot be written. What was listed before stays.
    pub fn publish(&mut self, now: Duration) -> Result<bool, String> {
        let mut has_new = false;
        while let Some(span) = self.waiting.front().and_then(|next| self.span(next))
            && span.end <= self.settled
            && span.end + DELAY <= now
            && let Some(next) = self.take_written()
        {
            self.list(next)?;
            has_new = true;
        }
        if has_new {
            self.store(false)?;
        }
        Ok(has_new)
    }

    /// Lists all segments that are left, and ends the playlists.
    ///
    /// # Errors
    /// One line, if a file cannot be written.
    pub fn close(&mut self) -> Result<(), String> {
        let mut result = Ok(());
        while let Some(next) = self.waiting.pop_front() {
            match self.span(&next).filter(|_| self.is_written(&next)) {
                Some(_) => result = result.and(self.list(next)),
                // No sound of its connection was heard, or it was not finished.
                None => self.directory.remove(&next.file),
            }
        }
        match self.window.is_empty() {
            true => result,
            false => result.and(self.store(true)),
        }
    }

    /// When in the session a segment is.
    fn span(&self, segment: &MediaSegment) -> Option<Range<Duration>> {
        let start = self.timelines.session(segment.connection, segment.start)?;
        Some(start..start + segment.duration)
    }

    /// Whether the file of a segment is complete: the sink announces it a moment before.
    fn is_written(&self, segment: &MediaSegment) -> bool {
        self.directory.file(&segment.file).exists()
    }

    fn take_written(&mut self) -> Option<MediaSegment> {
        match self.is_written(self.waiting.front()?) {
            true => self.waiting.pop_front(),
            false => None,
        }
    }

    /// Adds a segment to the playlists, in parts if it is too long. What cannot be written, or is too long all the same, is left out.
    fn list(&mut self, media: MediaSegment) -> Result<(), String> {
        let file = media.file.clone();
        let parts = match self.window.fits(media.duration) {
            true => Ok(vec![media]),
            false => split::split(&self.directory, media, self.window.target()),
        };
        let mut result = parts.as_ref().map(|_| ()).map_err(Clone::clone);
        self.is_interrupted |= result.is_err();
        if result.is_err() {
            self.directory.remove(&file);
        }
        for part in parts.into_iter().flatten() {
            let listed = match self.window.fits(part.duration) {
                true => self.try_list(&part),
                false => Err(self.too_long(&part)),
            };
            self.is_interrupted = listed.is_err();
            if listed.is_err() {
                self.directory.remove(&part.file);
            }
            result = result.and(listed);
        }
        result
    }

    fn too_long(&self, part: &MediaSegment) -> String {
        format!(
            "{:.1} s of the media have no key frame and cannot be cut, but segments must not be longer than {} s by now: let the \
             source's encoder write key frames more often",
            part.duration.as_secs_f64(),
            self.window.target().as_secs()
        )
    }

    /// Adds a segment to the playlists, with the captions of its time.
    fn try_list(&mut self, media: &MediaSegment) -> Result<(), String> {
        let path = self.directory.file(&media.file);
        let failed = |error| format!("cannot read {}: {error}", path.display());
        let span = self.span(media).ok_or("the media has no place in the session")?;
        let pts = transport_stream::first_pts(&path, Kind::of(media)).map_err(failed)?;
        let bits = 8 * fs::metadata(&path).map_err(failed)?.len();

        let captions = captions_name(self.window.count());
        self.directory
            .store(&captions, segment::text(&self.built, &span, pts))?;
        self.built.retain(|cue| Duration::from_nanos(cue.end) > span.end);

        let last = self.connection.replace(media.connection);
        let is_other = last.is_some_and(|last| last != media.connection);
        self.timelines.forget_before(media.connection);
        let bandwidth = bits as f64 / media.duration.as_secs_f64().max(0.1);
        self.bandwidth = self.bandwidth.max(bandwidth.ceil() as u64);
        self.format.clone_from(&media.format);
        let gone = self.window.push(Segment {
            media: media.file.clone(),
            captions,
            duration: media.duration,
            is_discontinuous: is_other || self.is_interrupted,
        });
        for gone in gone {
            self.directory.remove(&gone.media);
            self.directory.remove(&gone.captions);
        }
        Ok(())
    }

    /// Writes the multivariant playlist if it changed.
    fn store_multivariant(&mut self) -> Result<(), String> {
        let text = multivariant(&self.format, self.bandwidth, self.language.as_deref());
        if text != self.multivariant {
            self.directory.store(MULTIVARIANT, &text)?;
            self.multivariant = text;
        }
        Ok(())
    }

    /// Writes the playlists: captions first, so that a player that sees media finds its captions.
    fn store(&mut self, has_ended: bool) -> Result<(), String> {
        let listed = self.window.listed(has_ended);
        self.directory
            .store(CAPTIONS, listed.text(|segment| &segment.captions))?;
        self.directory.store(MEDIA, listed.text(|segment| &segment.media))?;
        self.store_multivariant()
    }
}
